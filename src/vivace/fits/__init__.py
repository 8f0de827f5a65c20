"""Many fits of one model: how far its answers depend on chance, and which options suit the data."""
