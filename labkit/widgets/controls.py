"""The controls beside a picture, and how they are shown."""

import base64
import io
from collections.abc import Callable, Mapping

import ipywidgets
from matplotlib.figure import Figure


def slider(kind: type[ipywidgets.Widget], description: str, **options) -> ipywidgets.Widget:
    """A slider of ipywidgets as wide as the picture, its whole description beside it."""
    style, layout = {"description_width": "initial"}, {"width": "95%", "max_width": "600px"}
    return kind(description=description, style=style, layout=layout, **options)


class Slider:
    """A slider and the picture that `draw(value)` makes at its position.

    draw: takes the slider's value, returns a matplotlib Figure (not one of pyplot's, which
        Jupyter would show a second time).
    control: an ipywidgets slider; its description names the quantity and its unit.
    """

    def __init__(self, draw: Callable[[float], Figure], control: ipywidgets.Widget):
        self.draw, self.control = draw, control
        self.image = ipywidgets.Image(
            format="png", value=png(draw(control.value)), layout={"max_width": "100%"}
        )
        self.still = self.image.value
        self.box = ipywidgets.VBox([control, self.image])
        control.observe(self._redraw, names="value")

    def _redraw(self, change) -> None:
        self.image.value = png(self.draw(change["new"]))

    def __repr__(self) -> str:
        return f"Slider({self.control.description} = {self.control.value:g})"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        """The live box, and the still picture for readers without a kernel."""
        return bundle(self.box, self.still, repr(self))


class Picker:
    """Several controls and the picture that `draw(**values)` makes of what is chosen.

    draw: takes the value of each control by its name, returns a matplotlib Figure (not one of
        pyplot's).
    controls: ipywidgets with a value, by name; their descriptions say what they are.
    """

    def __init__(self, draw: Callable[..., Figure], controls: Mapping[str, ipywidgets.Widget]):
        self.draw, self.controls = draw, dict(controls)
        self.image = ipywidgets.Image(
            format="png", value=png(draw(**self.values)), layout={"max_width": "100%"}
        )
        self.still = self.image.value
        row = {"display": "flex", "flex_flow": "row wrap", "max_width": "760px"}
        self.box = ipywidgets.VBox(
            [ipywidgets.Box(list(self.controls.values()), layout=row), self.image]
        )
        for control in self.controls.values():
            control.observe(self._redraw, names="value")

    @property
    def values(self) -> dict:
        """What is chosen, by name."""
        return {name: control.value for name, control in self.controls.items()}

    def _redraw(self, change) -> None:
        self.image.value = png(self.draw(**self.values))

    def __repr__(self) -> str:
        chosen = (f"{c.description} = {word(c.value)}" for c in self.controls.values())
        return f"Picker({', '.join(chosen)})"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        """The live box, and the still picture for readers without a kernel."""
        return bundle(self.box, self.still, repr(self))


def bundle(box: ipywidgets.Widget, still: bytes, text: str) -> dict:
    """What Jupyter shows: the live box, or the still picture (PNG) where no kernel runs."""
    return {
        "application/vnd.jupyter.widget-view+json": {
            "version_major": 2,
            "version_minor": 0,
            "model_id": box.model_id,
        },
        "image/png": base64.b64encode(still).decode(),
        "text/plain": text,
    }


def word(value) -> str:
    """A choice as a reader says it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes, lightly compressed: it follows a slider."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


def tidy(ax) -> None:
    """Fewer frames, a faint grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
