"""What training and quantization give: accuracy."""

from __future__ import annotations

from benchmarks.readme_blocks.shared import RESULTS, ROOT, load, machine, table

__all__ = ["accuracy", "quantization", "quantization_aware", "training"]


def accuracy() -> str:
    """Keras, float32 and int8 of the reference artifact on the whole test set."""
    manifest = load(ROOT / "exported" / "fashion-mnist" / "manifest.json")
    first = next(iter(manifest["parity"].values()))[0]
    rows = [
        ["`model.keras`", f"{first['keras_accuracy']:.2%}", "", "", f"{manifest['files']['model.keras']['bytes']:,}"]
    ]
    for name, (parity,) in manifest["parity"].items():
        same = round(parity["agreement"] * parity["rows"])
        rows.append(
            [
                f"`{name}`",
                f"{parity['accuracy']:.2%}",
                f"{same:,} of {parity['rows']:,}",
                f"{parity['max_abs']:.1e}",
                f"{manifest['files'][name]['bytes']:,}",
            ]
        )
    training = manifest["training"]
    return (
        table(["file", "test accuracy", "labels as Keras", "largest difference", "bytes"], rows)
        + f"\n\nRecipe `{training['recipe']['name']}`, seed {training['seed']}, {training['epochs_run']} epochs in "
        f"{training['seconds']:.0f} s. One seed: another moves accuracy by some tenths of a point."
    )


def training() -> str:
    """What each recipe gives over its seeds, and how fast the default one trains."""
    report = load(RESULTS / "training.json")
    order = ("notebook", "default", "best")
    report["recipes"] = {name: report["recipes"][name] for name in order if name in report["recipes"]}
    rows = []
    for name, entry in report["recipes"].items():
        models, found = entry["models"], entry["summary"]
        seconds = sorted(model["seconds"] for model in models if model["timed"])
        rows.append(
            [
                f"`{name}`",
                f"{found['seeds']}",
                " to ".join(dict.fromkeys(f"{time:.0f}" for time in (*seconds[:1], *seconds[-1:]))) + " s"
                if seconds
                else "not timed",
                *(
                    f"{found[kind]['mean']:.2%} ({found[kind]['least']:.2%} to {found[kind]['most']:.2%})"
                    for kind in ("validation_accuracy", "float32", "int8")
                ),
                f"{found['int8_agreement_with_keras']['mean']:.2%}",
            ]
        )
    columns = [
        "recipe", "seeds", "training", "validation", "test, float32", "test, int8", "labels of int8 as Keras",
    ]  # fmt: skip
    shared = [
        f"{sum(m['own_teachers'] is False for m in e['models'])} of {len(e['models'])} `{name}` models learn from the "
        "first one's teachers"
        for name, e in report["recipes"].items()
        if any(m["own_teachers"] is False for m in e["models"])
    ]
    epochs = report["speed"]["median_seconds"]
    text = "Means, least and most. int8 has one weight scale an output channel. "
    text += f"{'; '.join(shared)}. " if shared else ""
    for name, entry in report["recipes"].items():
        if 0 < (timed := sum(model["timed"] for model in entry["models"])) < len(entry["models"]):
            text += f"The time is that of {timed} of the {len(entry['models'])} `{name}` models. "
    multiplied = [
        f"`{name}` {', '.join(sorted({model['precision'] for model in entry['models']}))}"
        for name, entry in report["recipes"].items()
    ]
    text += f"Multiplied in: {'; '.join(multiplied)}. "
    if missing := [name for name in order if name not in report["recipes"]]:
        text += f"Not measured yet: {', '.join(f'`{name}`' for name in missing)}. "
    if "notebook" in report["recipes"]:
        models = report["recipes"]["notebook"]["models"]
        reached, best = (
            sum(model[key] for model in models) / len(models) for key in ("train_accuracy", "best_validation_accuracy")
        )
        text += (
            f"`notebook` reaches a training accuracy of {reached:.2%} and at best {best:.2%} on validation, on "
            "average; the notebook printed 95.84 % and 89.56 %. "
        )
    return (
        f"{table(columns, rows)}\n\n{text}An epoch of `{report['speed']['recipe']}` takes {epochs:.2f} s (median, "
        f"55,000 images, {report['speed']['precision']}).\n\n{machine(report['host'])}, `make training`."
    )


def quantization() -> str:
    """What each int8 form loses over several trained models, and the reference file's size and ratios of latency."""
    report = load(RESULTS / "quantization.json")
    rows = [
        [
            name,
            f"{entry['accuracy_mean']:.2f} ± {entry['accuracy_std']:.2f} %",
            f"{-entry['lost_mean'] + 0:+.2f} ± {entry['lost_std']:.2f}",
            f"{entry['agreement_mean']:.2f} %",
            f"{entry['agreement_min']:.2f} %",
        ]
        for name, entry in report["summary"].items()
    ]
    columns = [f"{len(report['models'])} models", "test accuracy", "points to Keras", "labels as Keras", "least"]
    size, times = report["size"], report["latency"]
    before = "" if report["format"] > 1 else " All of this was measured before bias correction came in."
    ratios = "; ".join(
        f"{name} {entry['ratio']:.2f} ({entry['low']:.2f} to {entry['high']:.2f})"
        for name, entry in times["ratios"].items()
    )
    return (
        table(columns, rows) + f"\n\nMean and standard deviation over {len(report['models'])} seeds. "
        f"The int8 file of the reference model takes {size['bytes']:,} bytes, {size['ratio']:.3f} of one byte a weight "
        f"and four a bias. Latency of one image, median ratio and 95 % interval over {times['rounds']} interleaved "
        f"rounds: {ratios}.{before}\n\n{machine(report['host'])}."
    )


def quantization_aware() -> str:
    """What int4 loses with and without a finish of training in rounded weights."""
    report = load(RESULTS / "quantization_aware.json")
    rows = []
    for recipe, entry in report["summary"].items():
        seeds = [network["seed"] for network in report["networks"] if network["recipe"]["name"] == recipe]
        which = f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
        for how, called in (("without", "as trained"), ("with", "`--quantization-aware int4`")):
            figures = [
                f"{found['mean']:.2%}" + (f" ({found['least']:.2%} to {found['most']:.2%})" if len(seeds) > 1 else "")
                for found in entry[how].values()
            ]
            rows.append([f"`{recipe}`, {which}, {called}", *figures])
    columns = [
        "network", "test, float32", "test, int4", "labels of int4 as Keras", "as the network before the finish",
    ]  # fmt: skip
    settings = report["networks"][0]["recipe"]
    return (
        f"{table(columns, rows)}\n\nMeans, least and most. The finish: {settings['quantization_epochs']} epochs, Adam "
        f"from {settings['quantization_learning_rate']:g}, learning from the network's own answers before it (also of "
        f"`best`, whose teachers were not asked again).\n\n{machine(report['host'])}, `make quantization-aware`."
    )
