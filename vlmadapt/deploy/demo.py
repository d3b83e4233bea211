"""A page to try a run in the browser, made with Gradio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from vlmadapt.data.images import read_image
from vlmadapt.deploy.neighbours import Neighbours
from vlmadapt.errors import VlmadaptError
from vlmadapt.evaluation.accuracy import role_of
from vlmadapt.evaluation.predict import load, trained_and_known_classes
from vlmadapt.evaluation.predictor import Predictor
from vlmadapt.runs.progress import Reporter
from vlmadapt.runs.run import Run

if TYPE_CHECKING:
    import gradio

SHOWN = 5
"""Classes and training images that are shown for a picture."""
THUMBNAIL = (320, 320)

Answers = tuple[list[tuple[Image.Image, str]], dict[str, float], list[tuple[Image.Image, str]]]
"""Pictures with their best class; probabilities of the first picture; the training images closest to it."""


class Demo:
    """Answers what the page asks.

    Args:
        run: finished run.
        backbone: current name or path of its backbone.
        reporter: progress at the start.
    """

    def __init__(self, run: Run, backbone: str | None, reporter: Reporter):
        self.run = run
        self.predictor = load(run.folder, backbone=backbone)
        self.trained, _ = trained_and_known_classes(run)
        self.neighbours: Neighbours | None = None
        try:
            self.neighbours = Neighbours(run, self.predictor, reporter)
        except VlmadaptError as error:
            reporter.say(f"training images cannot be shown: {error}")

    def classify(self, files: Sequence[str] | None, names: str) -> Answers:
        """Answers for all pictures, and what is known of the first one.

        Args:
            files: pictures.
            names: classes to choose from, one a line.

        Raises:
            VlmadaptError: a picture cannot be read, or the method does not know a class.
        """
        if not files:
            return [], {}, []
        images = [Path(file) for file in files]
        classes = [name.strip() for name in names.splitlines() if name.strip()]
        predictor = self._for(classes)
        found = [dict(best) for best in predictor.predict(images, top=len(classes))]
        titles = [f"{name} {100 * probability:.1f} %" for name, probability in (next(iter(b.items())) for b in found)]
        pictures = [(_thumbnail(image), title) for image, title in zip(images, titles, strict=True)]
        return pictures, found[0], self._closest(images[0])

    def _for(self, classes: list[str]) -> Predictor:
        """The predictor, for another list of classes a new one of the same classifier."""
        if tuple(classes) == self.predictor.classes:
            return self.predictor
        return Predictor(self.predictor.classifier, classes, role_of(classes, self.trained))

    def _closest(self, image: Path) -> list[tuple[Image.Image, str]]:
        found = self.neighbours.closest(image, SHOWN) if self.neighbours else []
        return [(_thumbnail(n.image), f"{n.name} ({n.similarity:.2f})") for n in found]


def build_page(demo: Demo) -> gradio.Blocks:
    """The page.

    Raises:
        VlmadaptError: Gradio is not installed.
    """
    try:
        import gradio as gr
    except ImportError as error:
        raise VlmadaptError("the demo needs Gradio: pip install 'vlmadapt[demo]'.") from error

    def classify(files: list[str] | None, names: str) -> Any:
        try:
            return demo.classify(files, names)
        except VlmadaptError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def only(files: list[str] | None, names: str, chosen: Any) -> Any:
        _, probabilities, closest = classify([(files or [])[chosen.index]], names)
        return probabilities, closest

    only.__annotations__["chosen"] = gr.SelectData  # Gradio passes the event to what is annotated so

    settings = demo.run.settings()
    with gr.Blocks(title=f"vlmadapt: {demo.run.folder.name}", analytics_enabled=False) as page:
        gr.Markdown(f"## {settings.method} on {Path(settings.data).name}\nRun `{demo.run.folder.name}`")
        with gr.Row():
            with gr.Column():
                files = gr.File(label="Drop pictures here", file_count="multiple", file_types=["image"])
                names = gr.Textbox(
                    "\n".join(demo.predictor.classes), label="Classes to choose from, one a line", lines=8, max_lines=16
                )
                button = gr.Button("Classify", variant="primary")
            with gr.Column():
                answers = gr.Gallery(
                    label="Answers; choose a picture for its details", columns=4, object_fit="contain", height="auto"
                )
                details = gr.Label(label="Probabilities", num_top_classes=SHOWN)
                closest = gr.Gallery(label="Closest training images", columns=SHOWN, object_fit="contain")
        outputs = [answers, details, closest]
        gr.on([files.upload, button.click], classify, [files, names], outputs, api_name="classify")
        answers.select(only, [files, names], [details, closest])
    return page


def serve(run: Run, backbone: str | None, host: str, port: int) -> None:
    """Serve the page until Ctrl-C."""
    page = build_page(Demo(run, backbone, Reporter()))
    page.launch(server_name=host, server_port=port, share=False, quiet=True, prevent_thread_lock=True)
    print(f"open http://{host}:{port} in a browser; Ctrl-C ends it", flush=True)
    page.block_thread()


def _thumbnail(path: Path) -> Image.Image:
    image = read_image(path)
    image.thumbnail(THUMBNAIL)
    return image
