// Principal components and cosines of a night's vectors, small enough to run in the page.

/** Rows of `data` [L, D] where `valid`, each minus their mean. */
function centred(data, dim, rows) {
  const mean = new Float64Array(dim);
  for (const row of rows) for (let d = 0; d < dim; d++) mean[d] += data[row * dim + d];
  for (let d = 0; d < dim; d++) mean[d] /= rows.length;
  const out = new Float32Array(rows.length * dim);
  rows.forEach((row, place) => {
    for (let d = 0; d < dim; d++) out[place * dim + d] = data[row * dim + d] - mean[d];
  });
  return out;
}

/**
 * The first components by power iteration with deflation.
 * @param data float32[L, D] flat; rows: indexes of the rows to use
 * @returns scores: per component, one number per row of `rows`; shares of the variance
 */
export function principal(data, dim, rows, count = 2) {
  if (rows.length < 2) return { scores: [], shares: [] };
  const x = centred(data, dim, rows);
  const total = x.reduce((sum, value) => sum + value * value, 0);
  const scores = [];
  const shares = [];
  for (let component = 0; component < Math.min(count, dim); component++) {
    let axis = startAxis(x, dim);
    let score = new Float64Array(rows.length);
    for (let step = 0; step < 60; step++) {
      score = project(x, axis, dim, rows.length);
      const next = new Float64Array(dim);
      for (let row = 0; row < rows.length; row++) {
        for (let d = 0; d < dim; d++) next[d] += score[row] * x[row * dim + d];
      }
      const length = Math.hypot(...next);
      if (length < 1e-12) break;
      const unit = next.map((value) => value / length);
      const cosine = unit.reduce((sum, value, d) => sum + value * axis[d], 0);
      axis = unit;
      if (1 - cosine < 1e-7) break;
    }
    score = project(x, axis, dim, rows.length);
    // the sign of a component is arbitrary: the night begins on the negative side
    if (score[0] > 0) {
      axis = axis.map((value) => -value);
      score = score.map((value) => -value);
    }
    for (let row = 0; row < rows.length; row++) {
      for (let d = 0; d < dim; d++) x[row * dim + d] -= score[row] * axis[d];
    }
    scores.push(score);
    shares.push(total > 0 ? score.reduce((sum, value) => sum + value * value, 0) / total : 0);
  }
  return { scores, shares };
}

/** The row that is farthest from the mean, at length 1: never at a right angle to all of them. */
function startAxis(x, dim) {
  let best = 0;
  let longest = -1;
  for (let start = 0; start < x.length; start += dim) {
    let length = 0;
    for (let d = 0; d < dim; d++) length += x[start + d] ** 2;
    if (length > longest) [longest, best] = [length, start];
  }
  const norm = Math.sqrt(longest) || 1;
  return Float64Array.from(x.subarray(best, best + dim), (value) => value / norm);
}

function project(x, axis, dim, count) {
  const score = new Float64Array(count);
  for (let row = 0; row < count; row++) {
    let sum = 0;
    for (let d = 0; d < dim; d++) sum += x[row * dim + d] * axis[d];
    score[row] = sum;
  }
  return score;
}

/**
 * Cosines between stretches of the night, after the night's mean is taken away.
 * @returns size, and float[size * size]; NaN where a stretch has no usable epoch
 */
export function selfSimilarity(data, dim, valid, largest = 180) {
  const rows = valid.flatMap((usable, row) => (usable ? [row] : []));
  const size = Math.min(largest, valid.length);
  const sums = new Float64Array(size * dim);
  const x = centred(data, dim, rows);
  rows.forEach((row, place) => {
    const cell = Math.floor((row * size) / valid.length);
    for (let d = 0; d < dim; d++) sums[cell * dim + d] += x[place * dim + d];
  });
  const norm = Array.from({ length: size }, (_, cell) =>
    Math.hypot(...sums.subarray(cell * dim, (cell + 1) * dim)),
  );
  const cosine = new Float64Array(size * size).fill(NaN);
  for (let a = 0; a < size; a++) {
    for (let b = a; b < size; b++) {
      if (!norm[a] || !norm[b]) continue;
      let dot = 0;
      for (let d = 0; d < dim; d++) dot += sums[a * dim + d] * sums[b * dim + d];
      cosine[a * size + b] = cosine[b * size + a] = dot / (norm[a] * norm[b]);
    }
  }
  return { size, cosine };
}
