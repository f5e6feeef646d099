"""Segmentation sets of the user's own: any folders of images and label maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from naf.data.labelled.base import IGNORED, LabelError, LabelledImage, LabelledSet
from naf.data.labelled.layout import check_files

_IMAGE_FIELDS, _LABEL_FIELDS = ("split",), ("root", "split", "parent", "name", "stem")


def load(
    root: str | Path,
    split: str,
    images: str,
    labels: str,
    classes: int | Sequence[str],
    ignore: Iterable[int] = (255,),
    name: str = "folder",
) -> LabelledSet:
    """Images and label maps found by patterns.

    Args:
        root: folder of the images.
        split: what the patterns call {split}; any word.
        images: pattern below the root, with wildcards `*`, `?`, `[…]`, `**`: "train/*.jpg", "{split}/**/*.png".
        labels: path of an image's label map: "{root}/{split}annot/{stem}.png". {parent} is the image's folder below
            the root, {name} and {stem} are of its file. Without {root} it is below the root all the same.
        classes: their names in order of id, or how many they are.
        ignore: values of label maps that are no class.
        name: what records call the set.

    Raises:
        LabelError: if an argument makes no sense, no image fits the pattern, or an image has no label map.
    """
    root = Path(root).absolute()
    if not root.is_dir():
        raise LabelError(f"{root}: no such folder, expected images in it")
    pattern = _fill("images", images, _IMAGE_FIELDS, split=split)
    try:
        found = sorted(path for path in root.glob(pattern) if path.is_file())
    except (NotImplementedError, ValueError) as error:
        raise LabelError(f"images is {images!r}, expected a pattern below {root}: {error}") from None
    pairs = []
    for path in found:
        inside = path.relative_to(root)
        fields = {"root": root, "split": split, "parent": inside.parent, "name": path.name, "stem": path.stem}
        label = root / _fill("labels", labels, _LABEL_FIELDS, **fields)
        pairs.append(LabelledImage(str(inside.with_suffix("")), path, label))
    check_files(pairs, root / pattern)
    names = _class_names(classes)
    ignored = list(ignore)
    if not all(isinstance(raw, int) and 0 <= raw <= 255 for raw in ignored):
        raise LabelError(f"ignore is {ignored}, expected values from 0 to 255")
    raw_to_class = {**{id_: id_ for id_ in range(len(names))}, **dict.fromkeys(ignored, IGNORED)}
    return LabelledSet(name, split, names, pairs, raw_to_class, listed_in=root / pattern)


def _class_names(classes: int | Sequence[str]) -> list[str]:
    if isinstance(classes, str) or (isinstance(classes, int) and not 1 <= classes <= IGNORED):
        raise LabelError(f"classes is {classes!r}, expected names or a number from 1 to {IGNORED}")
    names = [f"class {id_}" for id_ in range(classes)] if isinstance(classes, int) else [str(name) for name in classes]
    if not 1 <= len(names) <= IGNORED:
        raise LabelError(f"classes has {len(names)} names, expected 1 to {IGNORED}")
    return names


def _fill(argument: str, template: str, known: Sequence[str], **fields: object) -> str:
    try:
        return template.format(**fields)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        expected = ", ".join(f"{{{field}}}" for field in known)
        raise LabelError(
            f"{argument} is {template!r}, expected a path with no fields but {expected}: {error!r}"
        ) from None
