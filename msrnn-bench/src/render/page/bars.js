// Groups of bars: upright where the names of the groups fit below them, else lying.

function bars(host, figure) {
  const { groups, y: axis, series } = figure.content;
  const entries = series.map((one, index) => {
    const style = `c${figure.places[index] % 9}`;
    const sample = () => {
      const svg = shape("svg", { class: style, "aria-hidden": "true" });
      svg.append(shape("rect", { class: "mark", x: 7, y: 0, width: 12, height: 12 }));
      return svg;
    };
    return { name: one.name, style, sample, series: one };
  });
  const names = groups.map((group) => shortened(group, 22));

  chart(host, figure, entries, (svg, width, shown) => {
    const { up } = figure;
    const visible = entries.filter((_, index) => shown[index]);
    const widest = Math.max(0, ...names.map((name) => measure(name)));
    const labels = Math.max(28, ...ticks(up, 6).map((tick) => measure(label(tick), 12))) + 12;
    const upright = (width - labels - 10) / groups.length > widest + 8;
    const each = Math.min(groups.length > 12 ? 9 : 18, 48 / Math.max(1, visible.length));
    const height = upright ? Math.round(Math.min(440, Math.max(280, width * 0.5))) : groups.length * Math.max(16, each * visible.length + 6) + 62;
    const [start, end] = upright ? [height - 30, 28] : [widest + 12, width - 24];
    const [first, last] = upright ? [labels, width - 10] : [8, height - 52];
    const along = (value) => start + Math.min(1, Math.max(0, share(up, value))) * (end - start);
    const slot = (last - first) / groups.length;
    const thick = slot * 0.8 / Math.max(1, visible.length);
    const floor = along(up.log ? up.lowest : 0);
    attributes(svg, { width, height, viewBox: `0 0 ${width} ${height}` });
    if (upright) {
      verticalAxis(svg, axis, up, { left: first, right: last, y: along }, 6);
      svg.append(shape("line", { class: "axis", x1: first, x2: last, y1: floor, y2: floor }));
    } else {
      for (const tick of ticks(up, Math.max(2, Math.floor(width / 110)))) {
        svg.append(
          shape("line", { class: "grid", x1: along(tick), x2: along(tick), y1: first, y2: last }),
          shape("text", { class: "tick", x: along(tick), y: last + 16, "text-anchor": "middle" }, label(tick)),
        );
      }
      svg.append(
        shape("line", { class: "axis", x1: floor, x2: floor, y1: first, y2: last }),
        shape("text", { x: end, y: last + 38, "text-anchor": "end" }, axisName(axis, up.log)),
      );
    }
    names.forEach((name, group) => {
      const middle = first + slot * (group + 0.5);
      svg.append(
        upright
          ? shape("text", { x: middle, y: start + 18, "text-anchor": "middle" }, name)
          : shape("text", { x: start - 8, y: middle, dy: "0.35em", "text-anchor": "end" }, name),
      );
      visible.forEach(({ series: one, style }, index) => {
        const value = one.values[group];
        if (value === null) return;
        const side = first + slot * (group + 0.1) + thick * index;
        const [low, high] = [Math.min(floor, along(value)), Math.max(floor, along(value))];
        const box = upright
          ? { x: side, y: low, width: thick * 0.9, height: high - low }
          : { x: low, y: side, width: high - low, height: thick * 0.9 };
        svg.append(shape("rect", { class: `bar ${style}`, ...box }));
        const error = one.errors?.[group];
        if (error === undefined || error === null) return;
        const middle = side + thick * 0.45;
        const ends = [along(value - error), along(value + error)].map((at) => (Number.isFinite(at) ? at : floor));
        svg.append(
          shape("line", upright
            ? { class: "bar-error", x1: middle, x2: middle, y1: ends[0], y2: ends[1] }
            : { class: "bar-error", y1: middle, y2: middle, x1: ends[0], x2: ends[1] }),
        );
      });
    });
    const stops = groups.map((group, index) => ({
      at: first + slot * (index + 0.5),
      title: group,
      rows: visible.map(({ name, style, series: one }) => ({
        name: shortened(name, 40),
        style,
        value: one.values[index] === null ? "no value" : withError(one.values[index], one.errors?.[index]),
      })),
      marks: () => {
        const [low, high] = [Math.min(start, end), Math.max(start, end)];
        const box = upright
          ? { x: first + slot * index, y: low, width: slot, height: high - low }
          : { x: low, y: first + slot * index, width: high - low, height: slot };
        return [shape("rect", { class: "halo", opacity: 0.4, ...box })];
      },
    }));
    return { stops, across: upright };
  });
}
