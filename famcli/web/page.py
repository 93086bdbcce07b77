"""The page: its components, and what happens when one is used. Made with Gradio; no other server is asked."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from famcli.data.search import is_input
from famcli.demo import PHOTOS, photo_folder
from famcli.outputs.image_files import draw_parts, read_photo, shrunk
from famcli.outputs.prediction import Failure, Prediction, shown_name
from famcli.web.batch import DOWNLOADS, SMALL_SIDE, Batch, Choices
from famcli_models.errors import FamError

MOST_PHOTOGRAPHS = 500  # of one visitor
MOST_WAITING = 32  # visitors whose photographs wait for the network
MOST_BOXES = 10
IDLE_SECONDS = 3600  # after which Gradio's own copies are deleted, and the photographs of a visitor who has left
MOST_SECONDS = 24 * 3600  # of photographs since the last were added, though the visitor stays
NONE = "nothing"
TITLE = "What is it, and where? · fam"
ABOUT = """# What is it, and where?
Drop photographs: a model that learned from class labels alone shows where the object is. They stay on the machine that
runs this page, and are deleted some time after you have left."""
CSS = """
.gradio-container { max-width: 84rem !important; margin: 0 auto !important; }
#work { flex-wrap: wrap; }
#gallery .grid-container { grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)) !important; }
.facts { padding: 0 !important; overflow-wrap: anywhere; }
.facts p, .facts table { margin: .2rem 0; }
.facts :is(table, tbody, tr, th, td) { border: 0 !important; text-align: left; padding: 0 1.2rem .1rem 0 !important; }
.facts td { font-variant-numeric: tabular-nums; }
"""
# Photographs of a folder keep their path within it, as on the command line.
HEAD = """<script>document.addEventListener("change", (event) => {
  for (const file of event.target.files ?? []) {
    const path = file.webkitRelativePath.split("/").slice(1).join("/");
    if (path) Object.defineProperty(file, "name", { value: path });
  }
}, true);</script>"""
THEME = gr.themes.Default(
    primary_hue="teal",
    font=["system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"],  # none is fetched
    font_mono=["ui-monospace", "monospace"],
)
CLICK = "() => document.querySelector('#file').click()"
SHOWN_FAILURES = 20
LEAST = 0.01  # probability of a class that is named beside the first
BLANK = Image.new("RGB", (SMALL_SIDE, SMALL_SIDE), "gray")  # in the place of a photograph that was not read


def _keep_names(source: Any) -> Any:
    """Let a component give files with the names that they had where they came from, which Gradio's own drop."""

    def preprocess(payload: Any) -> list[tuple[Path, str]]:
        files = [] if payload is None else getattr(payload, "root", payload)
        files = files if isinstance(files, list) else [files]
        return [(Path(file.path), file.orig_name or Path(file.path).name) for file in files]

    source.preprocess = preprocess  # not a subclass: Gradio writes a stub file beside the module of one
    return source


class _Pane:
    """A threshold, and what a model says of one photograph at it; hidden while there is no model."""

    def __init__(self, name: str, tau: float | None = None) -> None:
        picture: dict[str, Any] = {
            "format": "jpeg",
            "interactive": False,
            "buttons": ["fullscreen"],
            "show_label": False,
        }
        with gr.Column(scale=3, min_width=280, visible=tau is not None) as self.column:
            self.tau = gr.Slider(0, 0.99, tau or 0.5, step=0.01, label="Threshold τ", elem_id=f"{name}-tau")
            self.picture = gr.Image(elem_id=f"{name}-picture", **picture)
            self.facts = gr.HTML(elem_id=f"{name}-facts", elem_classes="facts")
            self.parts = gr.Image(elem_id=f"{name}-parts", visible=False, **picture)
        self.shown = [self.picture, self.facts, self.parts]


class Handlers:
    """What happens on the page: each method takes the values of components and gives those of others."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices

    def add(
        self,
        files: list[tuple[Path, str]],
        batch: Batch | None,
        *titles: str,
        progress: Callable[..., Any] = gr.Progress(),  # noqa: B008  (Gradio finds it by its default)
    ) -> tuple[Batch | None, Any, None]:
        """Take in photographs and run what is chosen on them; the first of them is shown."""
        before = len(batch.names) if batch else 0
        if before + len(files) > MOST_PHOTOGRAPHS:
            msg = f"{before + len(files)}, and the page takes {MOST_PHOTOGRAPHS}; 'fam predict' takes any number"
            raise gr.Error(msg, title="Too many photographs")
        if not files:
            return batch, gr.skip(), None
        with _as_message():
            batch = batch or Batch.in_new_folder()
            for path, name in sorted(files, key=lambda file: file[1]):
                batch.add(path, name)
        for title in titles:
            self._run(batch, title, progress)
        return batch, before, None

    def add_folder(
        self,
        files: list[tuple[Path, str]],
        batch: Batch | None,
        *titles: str,
        progress: Callable[..., Any] = gr.Progress(),  # noqa: B008
    ) -> tuple[Batch | None, Any, None]:
        """Likewise those of a folder; files of other types are left out, as on the command line."""
        images = [file for file in files if is_input(file[1])]
        if len(images) < len(files):
            gr.Info(f"{len(files) - len(images)} files that are no photographs by their names were left out")
        return self.add(images, batch, *titles, progress=progress)

    def add_examples(
        self,
        batch: Batch | None,
        *titles: str,
        progress: Callable[..., Any] = gr.Progress(),  # noqa: B008
    ) -> tuple[Batch | None, Any, None]:
        """Take in the photographs of ``fam demo``, once."""
        with _as_message():
            folder, known = photo_folder(), batch.names if batch else []
        files = [(folder / photo.file, photo.file) for photo in PHOTOS if photo.file not in known]
        return self.add(files, batch, *titles, progress=progress)

    def choose(
        self,
        batch: Batch | None,
        title: str,
        progress: Callable[..., Any] = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, Any]:
        """Run another model on the photographs; the slider goes to its own threshold."""
        if title == NONE:
            return gr.skip(), gr.Column(visible=False)
        self._run(batch, title, progress)
        return self.choices[title].predictor.tau, gr.Column(visible=True)

    def _run(self, batch: Batch | None, title: str, progress: Callable[..., Any]) -> None:
        if title == NONE:
            return
        with _as_message():
            choice = self.choices[title]
            for done, total in batch.predict(choice) if batch else ():
                progress((done, total), desc=title, unit="photographs")

    def clear(self, batch: Batch | None) -> tuple[None, int, None]:
        """Forget all photographs."""
        _remove(batch)
        return None, 0, None

    def show(self, batch: Batch | None, place: int, title: str, tau: float, boxes: float) -> tuple[Any, str, Any]:
        """The picture of one photograph, what is said of it, and its parts."""
        hidden = gr.Image(None, visible=False)
        if batch is None or title == NONE or not batch.names:
            return None, "", hidden
        found = batch.large(self.choices[title], batch.names[place], tau, int(boxes))
        if found is None:  # the network runs
            return gr.skip(), gr.skip(), gr.skip()
        if isinstance(found, Failure):
            return None, f"<p>{html.escape(f'{found.name}: {found.reason}')}</p>", hidden
        picture = gr.Image(found.overlay(), alt_text=_spoken(found))
        if found.parts is None:
            return picture, _facts(found), hidden
        tile = np.asarray(shrunk(Image.fromarray(read_photo(found)), SMALL_SIDE))
        return (
            picture,
            _facts(found),
            gr.Image(draw_parts(tile, found), alt_text="Parts and their weights", visible=True),
        )

    def overview(self, batch: Batch | None, title: str, tau: float, boxes: float) -> tuple[Any, Any, Any]:
        """All photographs in small, those that could not be read, and whether there is something to download."""
        if batch is None:
            return gr.Gallery([], visible=False), gr.HTML(visible=False), gr.Button(interactive=False)
        choice = self.choices[title]
        found = {name: batch.small(choice, name, tau, int(boxes)) for name in batch.names}
        small = [(one.overlay() if isinstance(one, Prediction) else BLANK, name) for name, one in found.items()]
        failures = [one for one in found.values() if isinstance(one, Failure)]
        said = gr.HTML(_failed(failures, len(found)), visible=True) if failures else gr.HTML(visible=False)
        return gr.Gallery(small, visible=len(small) > 1), said, gr.Button(interactive=len(failures) < len(found))

    def write(self, batch: Batch, title: str, tau: float, boxes: float, kind: str) -> str:
        """The file to take away."""
        with _as_message():
            return str(batch.write(self.choices[title], tau, int(boxes), kind))


@contextmanager
def _as_message() -> Iterator[None]:
    """Show what goes wrong, as the command line says it."""
    try:
        yield
    except (FamError, OSError) as error:  # the disk may be full
        raise gr.Error(str(error), title="") from error


def _selected(event: gr.SelectData) -> int:
    return int(event.index)


def _remove(batch: Batch | None) -> None:
    if batch is not None:
        batch.remove()


def _facts(found: Prediction) -> str:
    """The most probable classes, and a line a box, as HTML."""
    first, *others = [(f"{html.escape(c.name)} {c.probability or 0:.0%}", c.probability or 0) for c in found.classes]
    classes = ", ".join([first[0], *(text for text, probability in others if probability >= LEAST)])
    rows = "".join(
        f"<tr><td>{score:.2f}</td><td>{', '.join(f'{corner:.0f}' for corner in box)}</td></tr>"
        for box, score in zip(found.boxes.tolist(), found.scores.tolist(), strict=True)
    )
    head = "<tr><th>Score</th><th>Box x0, y0, x1, y1 in pixels</th></tr>"
    boxes = f"<table>{head}{rows}</table>" if rows else "<p>Nothing is above the threshold.</p>"
    h, w = found.size_hw
    remark = f"<p>Read all the same: {html.escape(found.remark)}.</p>" if found.remark else ""
    parts = "<p>The parts, each with its weight:</p>" if found.parts else ""
    return f"<p><b>{html.escape(found.name)}</b> · {w} × {h}</p><p>{classes}</p>{boxes}{remark}{parts}"


def _spoken(found: Prediction) -> str:
    """What the picture shows, for those who do not see it."""
    best = found.classes[0]
    name = shown_name(best.name, best.probability, found.known)
    where = "; ".join(", ".join(f"{corner:.0f}" for corner in box) for box in found.boxes.tolist())
    return f"{found.name}: {name}, {f'box {where}' if where else 'nothing found'}"


def _failed(failures: list[Failure], total: int) -> str:
    """Photographs that could not be read, as the command line names them."""
    lines = [f"<li>{html.escape(failure.name)}: {html.escape(failure.reason)}</li>" for failure in failures]
    more = [f"<li>and {len(lines) - SHOWN_FAILURES} more</li>"] if len(lines) > SHOWN_FAILURES else []
    head = f"{len(failures)} of {total} could not be read:"
    return f"<div role='alert'><p>{head}</p><ul>{''.join([*lines[:SHOWN_FAILURES], *more])}</ul></div>"


def build(names: Sequence[str]) -> gr.Blocks:
    """The page for some models: packaged names, folders of checkpoints, or names on the Hugging Face Hub.

    Raises:
        FamError: One of them cannot be found or opened.
    """
    handlers = Handlers(Choices(names))
    titles = handlers.choices.titles
    network: dict[str, Any] = {
        "concurrency_limit": 1,
        "concurrency_id": "network",
    }  # an engine runs one batch at a time
    moves: dict[str, Any] = {"concurrency_limit": None, "trigger_mode": "always_last", "show_progress": "hidden"}
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(IDLE_SECONDS, IDLE_SECONDS)) as page:
        batch = gr.State(None, time_to_live=MOST_SECONDS, delete_callback=_remove)
        place = gr.State(0)  # of the photograph that is shown, in the batch
        gr.Markdown(ABOUT)
        with gr.Row(elem_id="work"):
            with gr.Column(scale=1, min_width=270):
                files = _keep_names(gr.File(label="Photographs", file_count="multiple", height=150, elem_id="files"))
                with gr.Row():
                    folder = _keep_names(
                        gr.UploadButton("Folder", file_count="directory", size="sm", min_width=60, elem_id="folder")
                    )
                    examples = gr.Button("Examples", size="sm", min_width=60, elem_id="examples")
                    again = gr.Button("Start again", size="sm", min_width=60, elem_id="again")
                messages = gr.HTML(visible=False, elem_id="messages", elem_classes="facts")
                left_model = gr.Dropdown(titles, value=titles[0], label="Model", elem_id="left-model")
                right_model = gr.Dropdown([NONE, *titles], value=NONE, label="Beside it", elem_id="right-model")
                boxes = gr.Slider(1, MOST_BOXES, 1, step=1, label="Boxes, at most", elem_id="boxes")
                kind = gr.Radio([(title, key) for key, title in DOWNLOADS.items()], value="coco", label="Boxes as")
                download = gr.Button("Download", variant="primary", interactive=False, elem_id="download")
                file = gr.DownloadButton(visible="hidden", elem_id="file")
            left = _Pane("left", handlers.choices[titles[0]].predictor.tau)
            right = _Pane("right")
        with gr.Row():
            gallery = gr.Gallery(
                show_label=False,
                height="auto",
                object_fit="contain",
                allow_preview=False,
                format="jpeg",
                buttons=[],
                visible=False,
                elem_id="gallery",
            )

        def shown(pane: _Pane, event: Any) -> Any:
            return event(handlers.show, [batch, place, models[pane], pane.tau, boxes], pane.shown, **moves)

        def overview(event: Any) -> Any:
            given = [batch, left_model, left.tau, boxes]
            return event(handlers.overview, given, [gallery, messages, download], **moves)

        def all_shown(event: Any) -> None:
            overview(shown(right, shown(left, event).then).then)

        models = {left: left_model, right: right_model}
        chosen = [batch, *models.values()]
        for source, add in ((files, handlers.add), (folder, handlers.add_folder)):
            added = source.upload(add, [source, *chosen], [batch, place, files], **network)
            all_shown(added.success)
        all_shown(examples.click(handlers.add_examples, chosen, [batch, place, files], **network).success)
        all_shown(again.click(handlers.clear, batch, [batch, place, files], **network).then)
        for pane, model in models.items():
            opened = model.input(handlers.choose, [batch, model], [pane.tau, pane.column], **network)
            done = shown(pane, opened.success)
            if pane is left:
                overview(done.then)
            shown(pane, pane.tau.input)
        all_shown(boxes.input)
        overview(left.tau.input)
        all_shown(gallery.select(_selected, None, place, show_progress="hidden").then)
        made = download.click(handlers.write, [batch, left_model, left.tau, boxes, kind], file, **network)
        made.success(None, js=CLICK)
    page.queue(max_size=MOST_WAITING)
    return page
