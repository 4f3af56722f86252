"""Build the page: install its packages, train its models, bundle, pack, and swap the finished folder in.

    python demos/web/build.py                # demos/web/dist, a minute or two the first time
    python demos/web/build.py --smoke        # the same with models of a few epochs
    python demos/web/build.py --serve        # and serve it

Models that were made the same way before are kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

from npm_packages import HERE, install_packages
from page_files import write_page, write_service_worker
from serve import DIST, serve

from moe_edge.errors import MoeEdgeError

RECIPE = "made.json"
_MOTION = HERE.parent / "motion"
_RECIPE_SOURCES = (
    *(HERE / name for name in ("digits_model.py", "drawn_digits.py", "motion_model.py")),
    *(_MOTION / name for name in ("train.py", "recordings.py", "augmentation.py")),
)


def build(output: Path, *, smoke: bool = False, retrain: bool = False) -> None:
    """Build into a folder beside ``output``, then put it in its place.

    Args:
        output: The folder to replace.
        smoke: Train for a few epochs only.
        retrain: Make the models anew even where they are there.

    Raises:
        MoeEdgeError: If a package, a model or a bundle can't be made; ``output`` then stays as it was.
    """
    if output.exists() and not (output / "index.html").is_file() and any(output.iterdir()):
        raise MoeEdgeError(f"expected a built page or nothing in {output}, got other files; choose another with -o")
    output.parent.mkdir(parents=True, exist_ok=True)
    install_packages()
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as temporary:
        # mkdtemp makes folders private.
        folder = Path(temporary) / "new"
        folder.mkdir()
        write_page(folder)
        models = folder / "models"
        if not retrain and _recipe_of(output) == _recipe(smoke=smoke):
            shutil.copytree(output / "models", models)
        else:
            models.mkdir()
            make_models(models, smoke=smoke)
            (models / RECIPE).write_text(json.dumps(_recipe(smoke=smoke)), encoding="utf-8")
        version = write_service_worker(folder)
        if output.exists():
            output.rename(Path(temporary) / "old")
        folder.rename(output)
    files = [path for path in output.rglob("*") if path.is_file()]
    print(f"Built {output}: {len(files)} files, {sum(path.stat().st_size for path in files):,} bytes, {version}")


def make_models(folder: Path, *, smoke: bool) -> None:
    """Train and convert the models of the page."""
    from digits_model import train_digits  # TensorFlow: only when it's needed
    from motion_model import make_motion

    train_digits(folder, smoke=smoke)
    make_motion(folder, smoke=smoke)


def _recipe(*, smoke: bool) -> dict[str, object]:
    """What the models depend on."""
    sources = b"".join(source.read_bytes() for source in _RECIPE_SOURCES)
    return {"smoke": smoke, "sources": hashlib.sha256(sources).hexdigest()}


def _recipe_of(output: Path) -> object:
    try:
        return json.loads((output / "models" / RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def main() -> int:
    """Read the command line, build, and serve if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=DIST, help="folder to write (default: demos/web/dist)")
    parser.add_argument("--smoke", action="store_true", help="models of a few epochs, to see that everything runs")
    parser.add_argument("--retrain", action="store_true", help="make the models anew even where they are there")
    parser.add_argument("--serve", action="store_true", help="serve the page when it is built")
    parser.add_argument("--port", type=int, default=8080, help="with --serve: 0 takes any free one")
    arguments = parser.parse_args()
    if not 0 <= arguments.port <= 65535:
        parser.error(f"expected a port in [0, 65535], got {arguments.port}")
    try:
        build(arguments.output, smoke=arguments.smoke, retrain=arguments.retrain)
    except (MoeEdgeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was changed", file=sys.stderr)
        return 130
    return serve(arguments.output, arguments.port) if arguments.serve else 0


if __name__ == "__main__":
    sys.exit(main())
