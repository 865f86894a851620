# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Pages of HTML: their elements, and how they look in a browser."""

from html.parser import HTMLParser
from typing import NamedTuple

VOID = {'meta', 'img'}


class Look(NamedTuple):
    """A width of the window, and whether it is dark around it."""

    width: int
    scheme: str

    def __str__(self):
        return f'{self.width}-{self.scheme}'


LOOKS = [Look(1200, 'light'), Look(1200, 'dark'), Look(360, 'light')]
BACK = {'light': 'rgb(251, 251, 250)', 'dark': 'rgb(22, 24, 27)'}


class Page(HTMLParser):
    """The elements of a page: what is open, what it refers to, and the texts of its cells."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.links, self.cells, self.images = [], [], [], [], []
        self.feed(path.read_text(encoding='utf-8'))
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.links += [attributes[name] for name in ('src', 'href') if name in attributes]
        if tag == 'img':
            self.images.append(attributes)
        if tag in ('td', 'th', 'dd', 'title', 'h1'):
            self.cells.append('')
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f'</{tag}> at {self.getpos()}'

    def handle_data(self, data):
        if {'td', 'th', 'dd', 'title', 'h1'} & set(self.open):
            self.cells[-1] += data


def check_look(browser, path, look):
    """Check that a page fits, asks for nothing, and can be read."""
    window = {'width': look.width, 'height': 800}
    view = browser.new_page(viewport=window, color_scheme=look.scheme)
    asked, said = [], []
    view.on('request', lambda request: asked.append(request.url))
    view.on('console', lambda message: said.append(message.text))
    view.goto(path.as_uri())
    assert [url for url in asked if not url.startswith('data:')] == [path.as_uri()]
    assert said == []
    assert view.evaluate('document.documentElement.scrollWidth') == look.width
    assert view.evaluate('getComputedStyle(document.body).backgroundColor') == BACK[look.scheme]
    assert view.evaluate('[...document.images].every(i => i.complete && i.naturalWidth > 0)')
    # Text stands out from what is behind it, in the cells of the confusion matrix as well.
    assert view.evaluate(CONTRASTS) > 4.5
    # No bar, point or text of a plot lies outside of it.
    assert view.evaluate("""[...document.querySelectorAll('svg :not(title)')].every(one => {
        const whole = one.ownerSVGElement.getBoundingClientRect();
        const part = one.getBoundingClientRect();
        return part.left >= whole.left - 1 && part.right <= whole.right + 1
            && part.top >= whole.top - 1 && part.bottom <= whole.bottom + 1; })""")
    view.close()


CONTRASTS = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const light = color => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(v => v / 255).map(
      v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const clear = color => color === 'rgba(0, 0, 0, 0)';
  let worst = 21;
  for (const one of document.querySelectorAll('td, th, p, dd, dt, figcaption, h1, h2, b')) {
    let behind = one;
    while (clear(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
    const [a, b] = [getComputedStyle(one).color, getComputedStyle(behind).backgroundColor]
      .map(light).sort((x, y) => y - x);
    worst = Math.min(worst, (a + 0.05) / (b + 0.05));
  }
  return worst; })()"""
