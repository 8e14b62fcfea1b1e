"""What a reader with eyes, a phone or a screen reader would find wrong with a page, asked of a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright
from support.programs import program

from clients.chromium.browser import ARGS

# Elements that reach beyond the window and are in no box that scrolls.
_OVERFLOWING = """() => [...document.querySelectorAll('body *')].filter(e => {
  const box = e.getBoundingClientRect()
  return box.width && box.right > innerWidth + 0.5 && !e.closest('.scroll') && !e.closest('thead')
}).map(e => `${e.tagName} ${e.className.baseVal ?? e.className} ${(e.textContent || '').trim().slice(0, 40)}`)"""

# Text whose contrast with what lies behind it is below WCAG's AA: 4.5, or 3 for large letters.
_FAINT = """() => {
  const rgba = text => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number)
  const over = (top, below) => {
    const a = top[3] ?? 1
    return [0, 1, 2].map(k => top[k] * a + below[k] * (1 - a))
  }
  const luminance = colour => {
    const [r, g, b] = colour.map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const background = element => {
    const layers = []
    for (let e = element; e; e = e.parentElement) layers.unshift(rgba(getComputedStyle(e).backgroundColor))
    return layers.reduce((below, layer) => over(layer, below), [255, 255, 255])
  }
  const found = []
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  for (let node; (node = walker.nextNode());) {
    const element = node.parentElement
    if (!node.data.trim() || !element.checkVisibility() || element.closest('svg title, svg desc, style')) continue
    const style = getComputedStyle(element)
    const behind = background(element)
    const ink = over(rgba(element.closest('svg') ? style.fill : style.color), behind)
    const [low, high] = [luminance(ink), luminance(behind)].sort((a, b) => a - b)
    const ratio = (high + 0.05) / (low + 0.05)
    const size = parseFloat(style.fontSize)
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700)
    if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${node.data.trim().slice(0, 40)}`)
  }
  return found
}"""

_UNNAMED = """() => [...document.querySelectorAll('svg')].filter(svg => {
  const texts = ['aria-labelledby', 'aria-describedby'].map(name => document.getElementById(svg.getAttribute(name)))
  return svg.getAttribute('role') !== 'img' || texts.some(text => !text?.textContent.trim())
}).length"""


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium, for as long as the block lasts; skips where there is none."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program("chromium"), args=list(ARGS))
        yield running
        running.close()


def overflowing(page: Page) -> list[str]:
    """What is wider than the window, in no box that scrolls by itself."""
    beyond: list[str] = page.evaluate(_OVERFLOWING)
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return beyond + ([f"the page itself, by {wide} px"] if wide > 0 else [])


def faint(page: Page) -> list[str]:
    """Text of too little contrast."""
    found: list[str] = page.evaluate(_FAINT)
    return found


def charts_without_text(page: Page) -> int:
    """How many drawings have no name or no description."""
    found: int = page.evaluate(_UNNAMED)
    return found


def bottom(page: Page, selector: str) -> float:
    """Where an element ends, in px from the top of the page."""
    box = page.locator(selector).first.bounding_box()
    assert box is not None, f"no {selector}"
    return box["y"] + box["height"]
