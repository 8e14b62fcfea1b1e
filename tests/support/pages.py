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

# Words of the tables that reach out of their square, or are broken amid, and headings that touch their neighbour's.
_CRAMPED = """() => {
  const rectangles = (node, from, to) => {
    const range = document.createRange()
    range.setStart(node, from)
    range.setEnd(node, to)
    return [...range.getClientRects()].filter(box => box.width > 0)
  }
  const hidden = element => {
    const head = element.closest('thead')
    return !element.checkVisibility() || (head && getComputedStyle(head).position === 'absolute')
  }
  const found = []
  for (const square of document.querySelectorAll('.board :is(td, thead th), .heat td, .numbers td')) {
    if (hidden(square)) continue
    const edge = square.getBoundingClientRect()
    const walker = document.createTreeWalker(square, NodeFilter.SHOW_TEXT)
    for (let node; (node = walker.nextNode());) {
      for (const word of node.data.matchAll(/[^\\s–]+/g)) {
        const boxes = rectangles(node, word.index, word.index + word[0].length)
        if (new Set(boxes.map(box => Math.round(box.top))).size > 1) found.push(`broken: ${word[0]}`)
        if (boxes.some(box => box.right > edge.right + 1 || box.left < edge.left - 1)) found.push(`beyond: ${word[0]}`)
      }
    }
  }
  for (const row of document.querySelectorAll('.board thead tr')) {
    const spans = [...row.children].filter(each => !hidden(each)).map(each => {
      const boxes = [...each.childNodes].flatMap(node => {
        const range = document.createRange()
        range.selectNodeContents(node)
        return [...range.getClientRects()]
      }).filter(box => box.width > 0)
      const [left, right] = [Math.min(...boxes.map(box => box.left)), Math.max(...boxes.map(box => box.right))]
      return {left, right, text: each.textContent}
    })
    spans.slice(1).forEach((span, k) => {
      if (span.left - spans[k].right < 2) found.push(`touching: ${spans[k].text} / ${span.text}`)
    })
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


@contextmanager
def with_scroll_bars(beside: Browser) -> Iterator[Browser]:
    """Another one, whose scroll bars take room as on a desk."""
    shown = ["--hide-scrollbars"]
    running = beside.browser_type.launch(
        executable_path=program("chromium"), args=list(ARGS), ignore_default_args=shown
    )
    yield running
    running.close()


def overflowing(page: Page) -> list[str]:
    """What is wider than the window, in no box that scrolls by itself."""
    beyond: list[str] = page.evaluate(_OVERFLOWING)
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return beyond + ([f"the page itself, by {wide} px"] if wide > 0 else [])


def cramped(page: Page) -> list[str]:
    """Words of tables that are cut or reach out of their square, and headings that touch."""
    found: list[str] = page.evaluate(_CRAMPED)
    return found


def set_letters(page: Page, size_px: int) -> None:
    """What a reader sets as the size of letters, which is 16 px if nobody does."""
    page.context.new_cdp_session(page).send("Page.setFontSizes", {"fontSizes": {"standard": size_px}})


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
