"""Every slider of the labs in JupyterLab: by keyboard and by drag, and its picture changes."""

import json
import statistics
from pathlib import Path

import pytest

from browser.conftest import KERNEL, NOTEBOOKS, errors

# What a lab shows: sliders (role "slider" for the keyboard) and dropdowns.
SLIDER, DROPDOWN = ".widget-slider", ".widget-dropdown"
# The picture under a control: in the same output, the last image of a widget.
PICTURE = """(control) => {
  const output = control.closest('.jp-OutputArea-output');
  return [...output.querySelectorAll('img.widget-image, .widget-image img')].at(-1)?.src ?? '';
}"""
# Nothing is on its way any more: a picture is there and stays for 200 ms, the kernel is idle. Two
# moves in a row, of which the second takes the first one back, may be sent as none.
SETTLED = """async (control) => {
  const picture = PICTURE, kernel = KERNEL;
  const ready = () => picture(control) && kernel.status === 'idle' ? picture(control) : null;
  let seen = null, since = performance.now();
  for (const end = since + 30000; performance.now() < end;) {
    const now = ready();
    if (now !== seen) [seen, since] = [now, performance.now()];
    if (seen && performance.now() - since > 200) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`the page does not settle, the kernel is ${kernel.status}`);
}""".replace("PICTURE", PICTURE).replace("KERNEL", KERNEL)
# Milliseconds from the first key or pointer event to another picture: each has an address of its
# own. The promise is kept in the page while the control is moved.
WATCH = """(control) => {
  const picture = PICTURE, before = picture(control);
  const value = () => control.querySelector('[role=slider]')?.getAttribute('aria-valuetext');
  let began = null;
  const start = () => { began ??= performance.now(); };
  for (const event of ['keydown', 'pointerdown', 'change'])
    control.addEventListener(event, start, {capture: true, once: true});
  const called = performance.now();
  window.moved = new Promise((resolve, reject) => {
    const look = () => {
      const now = picture(control);
      if (now && now !== before) return resolve(performance.now() - began);
      if (performance.now() - called > 30000) return reject(
        new Error(`the picture stays, value ${value()}, kernel ${KERNEL.status}`));
      setTimeout(look, 2);
    };
    look();
  });
}""".replace("PICTURE", PICTURE).replace("KERNEL", KERNEL)


def labs_with_controls() -> list[str]:
    """The labs whose code calls for a widget."""
    found = []
    for path in sorted(Path(NOTEBOOKS).glob("[0-9]*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        code = "".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        if "widgets." in code:
            found.append(path.name[:2])
    return found


def moved(control, move) -> float:
    """Milliseconds from the move to the changed picture. Raises if it stays as it is."""
    control.evaluate(SETTLED)
    control.evaluate(WATCH)
    move()
    return control.page.evaluate("() => window.moved")


@pytest.mark.parametrize("lab", labs_with_controls())
def test_every_control_of_a_lab_moves_its_picture(lab, open_lab, record_property):
    page = open_lab(lab)
    assert errors(page) == []
    sliders, dropdowns = page.locator(SLIDER), page.locator(DROPDOWN)
    assert sliders.count() + dropdowns.count() > 0
    times = []
    for i in range(sliders.count()):
        slider = sliders.nth(i)
        slider.scroll_into_view_if_needed()
        assert slider.locator(".widget-label").inner_text().strip()
        times += by_keyboard(slider)
        by_drag(page, slider)
    for i in range(dropdowns.count()):
        choose_another(dropdowns.nth(i))
    if times:  # conftest.py prints it
        record_property("move", f"lab {lab}: {statistics.median(times):.0f} ms, {len(times)} moves")
    assert errors(page) == []


def test_the_live_trainer_starts_stops_and_starts_again(open_lab):
    from playwright.sync_api import expect

    expect.set_options(timeout=30_000)
    page = open_lab("09")
    train = page.get_by_role("button", name="Train this point").first
    stop = page.get_by_role("button", name="Stop after this epoch").first
    train.scroll_into_view_if_needed()
    for _ in range(2):
        moved(train, train.click)  # the curve has grown by an epoch
        expect(train).to_be_disabled()
        stop.click()
        expect(train).to_be_enabled()
        expect(stop).to_be_disabled()
    assert errors(page) == []


def by_keyboard(slider) -> list[float]:
    """Arrow keys, five moves there and back."""
    handle = slider.locator(".noUi-handle")
    handle.focus()
    keys = ["ArrowRight", "ArrowLeft"] if at_the_left(handle) else ["ArrowLeft", "ArrowRight"]
    return [moved(slider, lambda key=key: handle.press(key)) for key in keys * 2]


def at_the_left(handle) -> bool:
    low, value = (float(handle.get_attribute(f"aria-value{name}")) for name in ("min", "now"))
    return value <= low


def by_drag(page, slider) -> None:
    """The handle to the middle of the free side."""
    track = slider.locator(".noUi-target").bounding_box()
    handle = slider.locator(".noUi-handle").bounding_box()
    start = handle["x"] + handle["width"] / 2
    share = 0.8 if start < track["x"] + track["width"] / 2 else 0.2
    end, y = track["x"] + share * track["width"], handle["y"] + handle["height"] / 2

    def drag():
        page.mouse.move(start, y)
        page.mouse.down()
        page.mouse.move((start + end) / 2, y, steps=3)
        page.mouse.move(end, y, steps=3)
        page.mouse.up()

    moved(slider, drag)


def choose_another(dropdown) -> None:
    """Another entry of a dropdown that is not greyed out."""
    select = dropdown.locator("select")
    if select.is_disabled() or select.locator("option").count() < 2:
        return
    chosen = select.evaluate("select => select.selectedIndex")
    other = 1 if chosen == 0 else 0
    moved(dropdown, lambda: select.select_option(index=other))
