// Puts live plots in the place of drawings.

const kinds = { lines, bars, "heat-map": heatMap };
for (const host of document.querySelectorAll(".plot[data-figure]")) {
  const figure = data.figures[host.dataset.figure];
  kinds[figure.content.kind](host, figure);
  host.classList.add("live");
}

// Print shows everything.
const opened = [];
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open])")) {
    details.open = true;
    opened.push(details);
  }
});
addEventListener("afterprint", () => {
  for (const details of opened.splice(0)) details.open = false;
});
