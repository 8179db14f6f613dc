// Links to data files work in a report that was sent alone, too: the file is made from the page.

// The table of a figure's data: the same rows and columns as its CSV file.
function rowsOf({ content }) {
  const number = (value) => (value === null || value === undefined ? "" : value);
  if (content.kind === "lines") {
    const points = content.lines.flatMap((line) =>
      line.points.map((point) => [line.name, line.reference === true, point.x, point.y, number(point.error)]));
    return [["line", "reference", "x", "y", "error"], ...points];
  }
  if (content.kind === "bars") {
    const bars = content.groups.flatMap((group, index) =>
      content.series.map((series) => [group, series.name, number(series.values[index]), number(series.errors?.[index])]));
    return [["group", "series", "value", "error"], ...bars];
  }
  if (content.kind === "heat-map") {
    const cells = content.panels.flatMap((panel) => content.rows.flatMap((y, row) =>
      content.columns.map((x, column) => [panel.name, x, y, number(panel.values[row][column])])));
    return [["panel", "x", "y", "value"], ...cells];
  }
  if (content.kind === "passages") {
    const texts = content.passages.flatMap(({ title, texts }) =>
      texts.map(({ by, remark, text }) => [title, by, remark ?? "", text]));
    return [["passage", "by", "remark", "text"], ...texts];
  }
  return tableRows(content);
}

// Columns with standard errors have these in a column beside them.
function tableRows({ columns, rows }) {
  const heads = [];
  const parts = columns.flatMap((head, index) => {
    const value = (row) => (typeof row[index] === "string" ? row[index] : row[index].value);
    const all = [[head, value]];
    if (rows.some((row) => typeof row[index].error === "number")) {
      all.push([`${head} standard error`, (row) => row[index].error ?? ""]);
    }
    return all;
  });
  for (const [head] of parts) {
    let [name, n] = [head, 2];
    while (heads.includes(name)) name = `${head} ${n++}`;
    heads.push(name);
  }
  return [heads, ...rows.map((row) => parts.map(([, value]) => value(row)))];
}

function csv(rows) {
  const field = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  return rows.map((row) => row.map(field).join(",") + "\n").join("");
}

function makeFile(link) {
  const figure = data.figures[link.dataset.download];
  if (link.dataset.as === "csv") return new Blob([csv(rowsOf(figure))], { type: "text/csv" });
  const svg = document.querySelector(`#${CSS.escape(figure.id)} .static svg`);
  return new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" });
}

for (const link of document.querySelectorAll("a[data-download]")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const url = URL.createObjectURL(makeFile(link));
    element("a", { href: url, download: link.getAttribute("href").split("/").pop() }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  });
}
