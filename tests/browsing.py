"""What the tests of pages ask a browser: which labels lie over each other, or stand out of their drawing."""

OVERLAPS = """() => {
  const texts = [...document.querySelectorAll("svg text, .of, .key, .scale, .readout, .gallery span, figcaption")]
    .filter((e) => e.textContent.trim() && e.getClientRects().length);
  const boxes = texts.map((e) => [e, e.getBoundingClientRect()]);
  const over = [];
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
    const [a, p] = boxes[i], [b, q] = boxes[j];
    const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    if (wide > 0.5 && high > 0.2 * Math.min(p.height, q.height)) over.push([a.textContent, b.textContent]);
  }
  const out = boxes.filter(([e, p]) => {
    const svg = e.closest("svg")?.getBoundingClientRect();
    return svg && (p.left < svg.left - 0.5 || p.right > svg.right + 0.5 || p.bottom > svg.bottom + 0.5);
  }).map(([e]) => e.textContent);
  return [over, out, document.documentElement.scrollWidth];
}"""
WIDTHS = [320, 400, 530, 720, 800, 1024, 1280, 1600]


def overlapping(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    over, out, wide = page.evaluate(OVERLAPS)
    return {"over": over, "out": out, "wide": wide > width}


NONE = {"over": [], "out": [], "wide": False}
