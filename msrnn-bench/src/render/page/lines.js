// Lines over a numeric axis.

// A mark around a point: shapes that can be told apart without colour, then the same hollow.
function mark(index, x, y, style) {
  const paths = [
    "M-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0-6.8 0z",
    "M-3-3h6v6h-6z",
    "M0-4L4 3H-4z",
    "M0-4.4L4.4 0L0 4.4L-4.4 0z",
  ];
  const hollow = index % 8 >= 4 ? " hollow" : "";
  return shape("path", { class: `mark ${style}${hollow}`, d: paths[index % 4], transform: `translate(${x} ${y})` });
}

function lines(host, figure) {
  const { x: xAxis, y: yAxis, lines } = figure.content;
  let results = 0;
  const entries = lines.map((line) => {
    const index = line.reference ? -1 : figure.places[results++];
    const style = line.reference ? "reference" : `c${index % 9}`;
    const sample = () => {
      const svg = shape("svg", { class: style, "aria-hidden": "true" });
      svg.append(shape("line", { class: "line", x1: 0, x2: 26, y1: 6, y2: 6 }));
      if (index >= 0) svg.append(mark(index, 13, 6, style));
      return svg;
    };
    return { name: line.name, style, sample, index, line };
  });
  const places = [...new Set(lines.flatMap((line) => line.points.map((point) => point.x)))].sort((a, b) => a - b);

  chart(host, figure, entries, (svg, width, shown) => {
    const height = Math.round(Math.min(460, Math.max(280, width * 0.56)));
    const { across, up } = figure;
    const labels = ticks(up, 6).map((tick) => measure(label(tick), 12));
    const left = Math.max(28, ...labels) + 12;
    const visible = entries.filter((entry, index) => shown[index] && entry.line.points.length > 0);
    // Names at the ends of the lines where there is room for them.
    const named = width > 560 && visible.length * 17 < height - 70;
    const room = Math.max(0, ...visible.map((entry) => measure(shortened(entry.name, 26)))) + 36;
    const right = width - (named ? room : 14);
    const [top, bottom] = [28, height - 46];
    const x = (value) => left + share(across, value) * (right - left);
    const y = (value) => {
      const at = bottom - share(up, value) * (bottom - top);
      return Number.isFinite(at) ? Math.min(bottom, Math.max(top - 20, at)) : bottom;
    };
    attributes(svg, { width, height, viewBox: `0 0 ${width} ${height}` });
    verticalAxis(svg, yAxis, up, { left, right, y }, 6);
    svg.append(shape("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
    for (const tick of ticksAt(across, places, Math.max(3, Math.min(8, Math.floor(width / 90))))) {
      svg.append(
        shape("line", { class: "axis", x1: x(tick), x2: x(tick), y1: bottom, y2: bottom + 4 }),
        shape("text", { class: "tick", x: x(tick), y: bottom + 18, "text-anchor": "middle" }, label(tick)),
      );
    }
    svg.append(
      shape("text", { x: (left + right) / 2, y: height - 6, "text-anchor": "middle" }, axisName(xAxis, across.log)),
    );
    for (const entry of visible) drawLine(svg, entry, x, y);
    if (named) nameEnds(svg, visible, x, y, right, top, bottom);
    return { stops: stopsOf(visible, places, xAxis, x, y, top, bottom), across: true };
  });
}

function drawLine(svg, { line, style, index }, x, y) {
  const { points } = line;
  const errors = points.filter((point) => point.error !== undefined);
  if (errors.length > 60) {
    const above = errors.map((point) => `${x(point.x)} ${y(point.y + point.error)}`);
    const below = errors.map((point) => `${x(point.x)} ${y(point.y - point.error)}`).reverse();
    svg.append(shape("path", { class: `band ${style}`, d: `M${above.concat(below).join("L")}z` }));
  } else {
    for (const { x: at, y: value, error } of errors) {
      svg.append(shape("line", { class: `error ${style}`, x1: x(at), x2: x(at), y1: y(value - error), y2: y(value + error) }));
    }
  }
  const d = `M${points.map((point) => `${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`).join("L")}`;
  svg.append(shape("path", { class: `line ${style}`, d }));
  if (index >= 0 && points.length <= 60) {
    for (const point of points) svg.append(mark(index, x(point.x), y(point.y), style));
  }
}

// Names at the height of the ends of their lines, pushed apart where they would overlap.
function nameEnds(svg, visible, x, y, right, top, bottom) {
  const height = 17;
  const ends = visible.map((entry) => {
    const last = entry.line.points[entry.line.points.length - 1];
    return { entry, from: { x: x(last.x), y: y(last.y) }, y: y(last.y) };
  });
  ends.sort((a, b) => b.from.y - a.from.y);
  ends.forEach((end, index) => {
    end.y = Math.min(end.y, index ? ends[index - 1].y - height : bottom);
  });
  for (let index = ends.length - 1; index >= 0; index--) {
    ends[index].y = Math.max(ends[index].y, index + 1 < ends.length ? ends[index + 1].y + height : top);
  }
  for (const { entry, from, y: at } of ends) {
    svg.append(
      shape("line", { class: `leader ${entry.style}`, x1: from.x + 5, y1: from.y, x2: right + 15, y2: at }),
      entry.index < 0 ? "" : mark(entry.index, right + 20, at, entry.style),
      shape("text", { x: right + 29, y: at, dy: "0.35em" }, shortened(entry.name, 26)),
    );
  }
}

// One stop per place where a line has a point.
function stopsOf(visible, places, axis, x, y, top, bottom) {
  const byPlace = new Map(places.map((place) => [place, []]));
  for (const entry of visible) {
    for (const point of entry.line.points) byPlace.get(point.x).push({ entry, point });
  }
  return places.filter((place) => byPlace.get(place).length > 0).map((place) => {
    const found = byPlace.get(place).sort((a, b) => b.point.y - a.point.y);
    return {
      at: x(place),
      title: `${axis.label}: ${label(place)}`,
      rows: found.map(({ entry, point }) => ({
        name: shortened(entry.name, 40),
        style: entry.style,
        value: withError(point.y, point.error),
      })),
      marks: () => [
        shape("line", { class: "cross", x1: x(place), x2: x(place), y1: top, y2: bottom }),
        ...found.map(({ point }) => shape("circle", { class: "halo", cx: x(place), cy: y(point.y), r: 5.5 })),
      ],
    };
  });
}
