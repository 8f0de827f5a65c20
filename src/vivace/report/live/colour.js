// From values to colours: a scale of 64 steps (viridis), or a colour a group.

const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
const STEPS = 64;
const MISSING = 65535;
const GREY = [150, 150, 150];

const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const RAMP = Array.from({ length: STEPS }, (_, i) => {
  const at = (i / (STEPS - 1)) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const [a, b] = [rgb(VIRIDIS[low]), rgb(VIRIDIS[low + 1])];
  return a.map((value, k) => Math.round(value + (b[k] - value) * (at - low)));
});

function shown(value, colour) {
  if (value === null) return "missing";
  if (colour.log10) return Math.round(10 ** value).toLocaleString("en");
  if (colour.percent) return `${(100 * value).toFixed(1)} %`;
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : Number(value.toPrecision(3)).toString();
}

// A colour with its arrays: `step` (which of `fill` a cell has) and `text` (its value in words).
async function groupColour(column) {
  const codes = await inflateBytes(column.codes);
  return { ...column, groups: true, step: codes, fill: column.fill.map(rgb), text: (i) => column.labels[codes[i]] };
}

async function numberColour(column) {
  const words = await inflateWords(column.values);
  const value = (i) => (words[i] === MISSING ? null : column.low + ((column.high - column.low) * words[i]) / (MISSING - 1));
  return scaled({ ...column, n: words.length, value }, column.ends);
}

async function geneColour(genes, k) {
  const levels = await inflateBytes(genes.values[k]);
  const [low, high] = [genes.low[k], genes.top[k]];
  const value = (i) => low + ((high - low) * levels[i]) / (genes.levels - 1);
  return scaled({ name: genes.names[k], gene: true, unit: genes.unit, n: levels.length, value }, [low, high]);
}

// The same numbers between other ends of the scale.
function scaled(colour, ends) {
  const step = new Uint8Array(colour.n);
  const span = Math.max(ends[1] - ends[0], 1e-12);
  for (let i = 0; i < colour.n; i++) {
    const value = colour.value(i);
    step[i] = value === null ? STEPS : Math.round(Math.min(Math.max((value - ends[0]) / span, 0), 1) * (STEPS - 1));
  }
  return { ...colour, step, fill: [...RAMP, GREY], range: ends, text: (i) => shown(colour.value(i), colour) };
}
