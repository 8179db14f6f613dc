// Elements and words. Text goes in as text nodes only, never as markup.

function attributes(node, names) {
  for (const [name, value] of Object.entries(names)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== undefined && value !== false) node.setAttribute(name, value);
  }
  return node;
}

function element(name, names = {}, ...children) {
  const node = attributes(document.createElement(name), names);
  node.append(...children);
  return node;
}

function shape(name, names = {}, ...children) {
  const node = attributes(document.createElementNS("http://www.w3.org/2000/svg", name), names);
  node.append(...children);
  return node;
}

// How wide a label of a chart is, in pixels.
const measure = (() => {
  const context = document.createElement("canvas").getContext("2d");
  return (text, size = 13) => {
    context.font = `${size}px ${getComputedStyle(document.documentElement).getPropertyValue("--label")}`;
    return context.measureText(text).width;
  };
})();

// A name that fits: its beginning where it is long.
function shortened(text, most) {
  const letters = Array.from(text);
  return letters.length > most ? letters.slice(0, most - 1).join("") + "…" : text;
}

// Draws now and whenever the width of a host changes.
function whenResized(host, draw) {
  let width = 0;
  new ResizeObserver(() => {
    if (host.clientWidth !== width) {
      width = host.clientWidth;
      draw();
    }
  }).observe(host);
}
