// Scales as the page's data gives them ({log, lowest, highest}), their ticks and labels.

function share(scale, value) {
  if (scale.log) return Math.log(value / scale.lowest) / Math.log(scale.highest / scale.lowest);
  return (value / 2 - scale.lowest / 2) / (scale.highest / 2 - scale.lowest / 2);
}

// About so many round numbers within a scale, ascending.
function ticks(scale, count) {
  const found = scale.log ? logTicks(scale, count) : [];
  return found.length > 1 ? found : linearTicks(scale, count);
}

function linearTicks({ lowest, highest }, count) {
  const rough = (highest / 2 - lowest / 2) / count * 2;
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * decade).find((step) => step >= rough);
  if (!Number.isFinite(step) || !(step > 0)) return [lowest, highest];
  const first = Math.ceil(lowest / step);
  const all = Array.from({ length: 2 * count + 1 }, (_, n) => Number(((first + n) * step).toPrecision(12)));
  return all.filter((tick) => tick >= lowest && tick <= highest);
}

function logTicks({ lowest, highest }, count) {
  const decades = Math.log10(highest / lowest);
  let mantissas = [1];
  if (decades * 8 <= count * 1.5) mantissas = [1, 1.5, 2, 2.5, 3, 4, 5, 7];
  else if (decades * 3 <= count * 1.5) mantissas = [1, 2, 5];
  const stride = Math.max(1, Math.ceil(decades / count));
  const found = [];
  for (let decade = Math.floor(Math.log10(lowest)); decade <= Math.ceil(Math.log10(highest)); decade += stride) {
    for (const m of mantissas) found.push(Number(`${m}e${decade}`));
  }
  return found.filter((tick) => tick >= lowest && tick <= highest);
}

// The values themselves where they are few and far enough apart, else round numbers.
function ticksAt(scale, values, count) {
  const apart = (value, index) => index === 0 || share(scale, value) - share(scale, values[index - 1]) > 0.5 / count;
  return values.length > 0 && values.length <= count + 4 && values.every(apart) ? values : ticks(scale, count);
}

// A number for a person: whole numbers in full, others with six significant digits.
function label(value) {
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e9) return grouped(String(value));
  if (size < 1e-4 || size >= 1e9) return value.toExponential(3).replace(/\.?0*e\+?/, "e");
  return grouped(String(Number(value.toPrecision(6))));
}

// With commas between thousands from five digits on.
function grouped(text) {
  const [whole, decimals] = text.split(".");
  const commas = whole.replace("-", "").length < 5 ? whole : whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return decimals === undefined ? commas : `${commas}.${decimals}`;
}

// Axis name with the kind of its scale.
function axisName(axis, log) {
  return log ? `${axis.label} (log scale)` : axis.label;
}
