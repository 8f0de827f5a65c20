"""Times one library, vivace or scvi-tools, on commands read from standard input, one JSON a line.

Usage: throughput_worker.py {vivace,scvi} cells.h5ad
Runs in either environment: the public names of both libraries are the same. Answers are JSON lines.
"""

import json
import resource
import sys
import time
import warnings

warnings.filterwarnings("ignore")

START = time.perf_counter(), time.process_time()
LIBRARY = sys.argv[1]
if LIBRARY == "vivace":
    import vivace as models
else:
    from scvi import model as models
models.SCVI  # noqa: B018 - vivace imports a model when it is first named
IMPORT = time.perf_counter() - START[0], time.process_time() - START[1]

import anndata  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

FAMILY = {"zinb": "SCVI", "nb": "SCVI", "poisson": "SCVI"}
EPOCHS: list[tuple[float, float]] = []


def find(name):
    """The model class; scvi-tools keeps some apart."""
    if LIBRARY == "scvi" and not hasattr(models, name):
        from scvi import external

        return getattr(external, name)
    return getattr(models, name)


def clock():
    return time.perf_counter(), time.process_time()


def record(start):
    EPOCHS.append(tuple(b - a for a, b in zip(start, clock(), strict=True)))


def watch_vivace_epochs():
    from vivace.train.loop import Trainer

    epoch = Trainer.epoch

    def timed(self, *args, **kwargs):
        start = clock()
        result = epoch(self, *args, **kwargs)
        record(start)
        return result

    Trainer.epoch = timed
    return {"progress": False, "recipe": "classic"}


def watch_scvi_epochs():
    import scvi
    from lightning.pytorch.callbacks import Callback

    scvi.settings.verbosity = 40

    class Watch(Callback):
        def on_train_epoch_start(self, trainer, module):
            self.start = clock()

        def on_train_epoch_end(self, trainer, module):
            record(self.start)

    return {"enable_progress_bar": False, "callbacks": [Watch()], "accelerator": "cpu"}


class Worker:
    """The models of one library on one set of cells."""

    def __init__(self, cells):
        self.adata = anndata.read_h5ad(cells)
        self.built = {}
        watch = watch_vivace_epochs if LIBRARY == "vivace" else watch_scvi_epochs
        self.train_options = watch()

    def build(self, name):
        if name == "SysVI" and "log" not in self.adata.layers:
            self.adata.layers["log"] = self.adata.X.log1p()
        if name not in self.built:
            kind = find(FAMILY.get(name, name))
            keys = {
                "CondSCVI": {"labels_key": "label"},
                "SysVI": {"layer": "log", "batch_key": "batch"},
            }
            kind.setup_anndata(self.adata, **keys.get(name, {"batch_key": "batch"}))
            options = {"gene_likelihood": name} if name in FAMILY else {}
            self.built[name] = kind(self.adata, **options)
        return self.built[name]

    def only(self, rows):
        """Train on these rows, hold none out to watch; scvi-tools wants to hear of every cell."""
        rest = np.setdiff1d(np.arange(self.adata.n_obs), rows)
        return {"external_indexing": [rows, np.arange(0), rest]}

    def train(self, model, cells, epochs=2, threads=1, precision="float32"):
        """Wall and CPU seconds of the fastest epoch over the first ``cells`` cells."""
        torch.set_num_threads(threads)
        EPOCHS.clear()
        rows = np.arange(cells)
        options = dict(self.train_options, max_epochs=epochs, batch_size=128)
        if model == "ContrastiveVI":
            half = cells // 2
            options |= {"background_indices": rows[:half], "target_indices": rows[half:]}
            options |= {"train_size": 1.0}
            rows = rows[:half]  # an epoch is a pass over pairs
        else:
            options["datasplitter_kwargs"] = self.only(rows)
        if precision != "float32":
            options["plan_kwargs"] = {"precision": precision}
        self.build(model).train(**options)
        n = cells if model != "ContrastiveVI" else 2 * len(rows)
        return [n, *(min(seconds) for seconds in zip(*EPOCHS, strict=True))]

    def latent(self, model, threads=1):
        torch.set_num_threads(threads)
        built = self.build(model)
        start = clock()
        built.get_latent_representation()
        return [self.adata.n_obs, *(b - a for a, b in zip(start, clock(), strict=True))]

    def curve(self, cells, epochs, seed, precision="float32"):
        """Negative ELBO of the training cells, epoch by epoch, by the classic recipe."""
        torch.set_num_threads(1)
        self.built.pop("zinb", None)
        torch.manual_seed(seed)
        options = dict(self.train_options, max_epochs=epochs)
        if LIBRARY == "vivace":
            options |= {"seed": seed, "plan_kwargs": {"precision": precision}}
        options["datasplitter_kwargs"] = self.only(np.arange(cells))
        model = self.build("zinb")
        model.train(**options)
        return [float(v) for v in model.history["elbo_train"].to_numpy().ravel()]

    def imports(self):
        return IMPORT

    def memory(self):
        """Largest resident memory of this process so far, MB."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def products(self, model):
        """Floating-point operations of a step's dense products, and how many this machine does a second."""
        from throughput_step import counted_products, product_speed

        with counted_products() as found:
            self.train(model, cells=256, epochs=1)
        return max(found), product_speed(self.adata.n_vars)

    def step(self, precision="float32", repeats=40):
        """CPU seconds of a step and of its bare matrix products, and what else the step spends."""
        from throughput_step import step_times

        return step_times(self.adata, precision, repeats)


def main():
    answers = sys.stdout
    sys.stdout = sys.stderr  # what the libraries print is no answer
    worker = Worker(sys.argv[2])
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(worker, command.pop("do"))(**command)
        print(json.dumps(answer), file=answers, flush=True)


main()
