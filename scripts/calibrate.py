"""Fit the temperature and the box score of a finished checkpoint, as ``fam train`` does at its end.

For a checkpoint that is older than both, or whose training images are no fair sample of what it gets wrong:

    python scripts/calibrate.py CHECKPOINT --labels DATA [--split test] [--targets DATA ...] [--evidence]

Image labels of ``--labels`` fit the temperature, targets made from image labels of ``--targets`` (split train-weaksup)
the box score, which stays as it is without them; with ``--evidence`` they are the class evidence, as the option targets
of recipes has it. No box is read.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from famcli.checkpoints.export import write_graph
from famcli.checkpoints.reference import record
from famcli.data.dataset import open_dataset
from famcli.data.sample import TRAIN
from famcli.inference.views import Views
from famcli.training.calibration import calibration_error, class_scores, fit_box_score, fit_temperature
from famcli.training.supervision import evidence_targets, make_targets
from famcli_models.checkpoint import WEIGHTS_FILE, read_shapes
from famcli_models.loading import load_model


def main() -> None:
    """Change the checkpoint's config in place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--targets", action="append", default=[])
    parser.add_argument("--evidence", action="store_true")
    given = parser.parse_args()
    model = load_model(given.checkpoint)
    half = any(dtype == "F16" for dtype, _ in read_shapes(given.checkpoint / WEIGHTS_FILE).values())
    logits, labels = class_scores(model, open_dataset(given.labels).samples(given.split))
    temperature = fit_temperature(logits, labels)
    for which in (1.0, temperature):
        error = calibration_error((logits / which).softmax(dim=1), labels)
        print(f"temperature {which:.3f}: expected calibration error {error:.3f} on these {len(labels)} images")
    model.config = replace(model.config, temperature=temperature)
    model.provenance["calibrated_on"] = (
        f"{len(labels)} image labels of {given.labels.rpartition('/')[2]}, {given.split}"
    )
    samples = [sample for name in given.targets for sample in open_dataset(name).samples(TRAIN)]
    if samples:
        if given.evidence:
            targets = evidence_targets(model, [], samples, model.config.size, views=Views())
        else:
            targets = make_targets(model, samples)
        weights = fit_box_score(model, list(zip(samples, targets, strict=True)))
        print(f"box score: {weights} from {len(samples)} images")
        model.config = replace(model.config, box_score=weights)
    model.save_pretrained(given.checkpoint, half=half)
    record(given.checkpoint)
    write_graph(given.checkpoint)


if __name__ == "__main__":
    main()
