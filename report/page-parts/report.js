"use strict";
(() => {
const $ = (id) => document.getElementById(id);
const root = document.documentElement;
const photoImage = (index) => document.querySelector(`#photo-${index} img`);
const photoName = (index) => $(`photo-${index}`)?.dataset.name ?? "";

// Light and dark: as the system has it until someone chooses.
const dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
$("theme").addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; view?.draw(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view?.draw());

// The table of photos: sorted by its headers, filtered by text and status.
const body = $("photo-table").tBodies[0];
const rows = [...body.rows];
const textOf = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
for (const button of $("photo-table").tHead.querySelectorAll("button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), key = button.dataset.key;
    const words = key === "name" || key === "status";
    const falling = head.ariaSort ? head.ariaSort === "ascending" : !words;
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const sign = falling ? -1 : 1;
    rows.sort((a, b) => sign * (words ? a.dataset[key].localeCompare(b.dataset[key], "en", { numeric: true }) : a.dataset[key] - b.dataset[key]));
    body.append(...rows);
  });
}
function filter() {
  const text = $("photo-filter").value.toLowerCase(), status = $("photo-status").value;
  let shown = 0;
  for (const row of rows) {
    row.hidden = !textOf.get(row).includes(text) || (status !== "" && row.dataset.status !== status);
    shown += !row.hidden;
  }
  $("photo-count").textContent = shown < rows.length ? `${shown} of ${rows.length}` : "";
}
$("photo-filter").addEventListener("input", filter);
$("photo-status").addEventListener("change", filter);
body.addEventListener("click", (event) => {
  const index = event.target.closest("tr")?.dataset.index;
  if (index !== undefined) choose(+index);
});

// Wherever a photo is drawn, it shows itself when pointed at, and is chosen when clicked.
const peek = $("peek");
document.addEventListener("pointermove", (event) => {
  const photo = event.target.dataset?.photo;
  peek.hidden = photo === undefined;
  if (photo !== undefined) showPeek(photo, event.clientX, event.clientY);
});
function showPeek(photo, x, y) {
  const image = photoImage(photo), own = peek.firstElementChild;
  own.hidden = !image;
  if (image) own.src = image.src;
  peek.lastElementChild.textContent = photoName(photo);
  peek.style.left = `${Math.min(x + 14, innerWidth - 205)}px`;
  peek.style.top = `${Math.min(y + 14, innerHeight - 170)}px`;
  peek.hidden = false;
}
document.addEventListener("click", (event) => {
  const photo = event.target.dataset?.photo;
  if (photo !== undefined) choose(+photo);
});
let chosen = -1;
function choose(index) {
  $(`photo-${chosen}`)?.classList.remove("chosen");
  chosen = index;
  $(`photo-${chosen}`)?.classList.add("chosen");
  view?.show(index);
}

// The scene: points splatted into a buffer with depths, cameras drawn over it. No WebGL, no library.
const scene = JSON.parse($("scene-data").textContent);
const view = scene.models.length ? makeView() : null;
view?.draw();

function decoded(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}

function ramp(t) { // from blue over sand to red, readable on both grounds
  const stops = [[49, 112, 168], [110, 178, 172], [226, 190, 110], [205, 80, 60]];
  const at = Math.min(Math.max(t, 0), 1) * (stops.length - 1), i = Math.min(Math.floor(at), stops.length - 2), f = at - i;
  return stops[i].map((low, k) => Math.round(low + f * (stops[i + 1][k] - low)));
}

function makeView() {
  const canvas = $("scene-canvas"), pen = canvas.getContext("2d");
  const start = { turn: 0.6, tilt: 0.55, away: 2.3, target: [0, 0, 0] };
  let eye = { ...start }, model, pixels, depths, frame = 0, shown = new Map(), waiting = false, onPaper = false;
  const size = $("scene-size"), cameraSize = $("scene-camera"), colour = $("scene-colour"), withPhotos = $("scene-photos");

  function load(number) {
    const data = scene.models[number];
    const xyz = decoded(data.xyz, Int16Array), points = new Float32Array(xyz.length);
    for (let i = 0; i < xyz.length; i++) points[i] = xyz[i] * data.unit;
    model = { ...data, points, rgb: decoded(data.rgb, Uint8Array), error: decoded(data.error, Uint8Array), length: decoded(data.length, Uint8Array) };
    paint();
    $("scene-caption").textContent = `Drag to turn, scroll to come nearer, shift-drag to move; click a camera for its photo. Keys: arrows, + and −, n and p. ${data.shown.toLocaleString("en")} of ${data.points.toLocaleString("en")} points are here.`;
  }

  function paint() { // the colour of every point as one number, as the pixel buffer wants it
    const n = model.points.length / 3, out = new Uint32Array(n);
    const top = colour.value === "error" ? 2 * sortedMiddle(model.error) || 1 : 10;
    for (let i = 0; i < n; i++) {
      let rgb = [model.rgb[3 * i], model.rgb[3 * i + 1], model.rgb[3 * i + 2]];
      if (colour.value === "error") rgb = ramp(model.error[i] / top);
      if (colour.value === "length") rgb = ramp(1 - (model.length[i] - 2) / 8);
      out[i] = (255 << 24) | (rgb[2] << 16) | (rgb[1] << 8) | rgb[0];
    }
    model.packed = out;
    const legend = $("scene-legend"), ends = { error: ["0 px", `${(top * scene.errorStep).toFixed(2)} px`], length: ["10 photos", "2"] }[colour.value];
    legend.replaceChildren();
    if (ends) {
      const bar = document.createElement("b");
      bar.style.background = `linear-gradient(90deg, ${[0, 0.33, 0.67, 1].map((t) => `rgb(${ramp(t)})`)})`;
      legend.append(ends[0], bar, ends[1]);
    }
  }

  function sortedMiddle(values) { return values.length ? [...values].sort((a, b) => a - b)[values.length >> 1] : 0; }

  function axes() { // rows: right, down and forward of the eye in the upright frame
    const { turn, tilt } = eye, c = Math.cos(turn), s = Math.sin(turn), ct = Math.cos(tilt), st = Math.sin(tilt);
    return [[c, s, 0], [s * st, -c * st, -ct], [-s * ct, c * ct, -st]];
  }

  function project(A, p) {
    const d = [0, 1, 2].map((i) => p[i] - eye.target[i]);
    const q = A.map((row) => row[0] * d[0] + row[1] * d[1] + row[2] * d[2]);
    q[2] += eye.away;
    const f = 1.15 * Math.min(canvas.width, canvas.height);
    return [canvas.width / 2 + (f * q[0]) / q[2], canvas.height / 2 + (f * q[1]) / q[2], q[2]];
  }

  function render() {
    waiting = false;
    const began = performance.now();
    const ratio = Math.min(devicePixelRatio || 1, 2), w = Math.round(canvas.clientWidth * ratio), h = Math.round(canvas.clientHeight * ratio);
    if (!w || !h) return;
    if (canvas.width !== w || canvas.height !== h || !pixels) {
      canvas.width = w; canvas.height = h;
      pixels = pen.createImageData(w, h); depths = new Float32Array(w * h);
    }
    const A = axes(), buffer = new Uint32Array(pixels.data.buffer), P = model.points, f = 1.15 * Math.min(w, h);
    buffer.fill(0); depths.fill(Infinity);
    const [tx, ty, tz] = eye.target, n = P.length / 3, base = +size.value * ratio * 0.5;
    for (let i = 0, j = 0; i < n; i++, j += 3) {
      const dx = P[j] - tx, dy = P[j + 1] - ty, dz = P[j + 2] - tz;
      const z = A[2][0] * dx + A[2][1] * dy + A[2][2] * dz + eye.away;
      if (z < 0.05) continue;
      const x = w / 2 + (f * (A[0][0] * dx + A[0][1] * dy + A[0][2] * dz)) / z;
      const y = h / 2 + (f * (A[1][0] * dx + A[1][1] * dy + A[1][2] * dz)) / z;
      const side = Math.max(1, Math.min(12, Math.round((base * 3.4) / z + 0.5)));
      const x0 = Math.round(x - side / 2), y0 = Math.round(y - side / 2);
      if (x0 < 0 || y0 < 0 || x0 + side > w || y0 + side > h) continue;
      for (let v = y0; v < y0 + side; v++) for (let u = x0, at = v * w + x0; u < x0 + side; u++, at++)
        if (z < depths[at]) { depths[at] = z; buffer[at] = model.packed[i]; }
    }
    if (onPaper) putRecorded(w, h); else pen.putImageData(pixels, 0, 0);
    drawCameras(A, ratio);
    frame = performance.now() - began;
    canvas.dataset.frameMs = frame.toFixed(1);
  }

  function putRecorded(w, h) { // a printer gets what is drawn, and pixels that are put are not among it
    const copy = new OffscreenCanvas(w, h);
    copy.getContext("2d").putImageData(pixels, 0, 0);
    pen.clearRect(0, 0, w, h);
    pen.drawImage(copy, 0, 0);
  }

  function corners(camera, depth) {
    const [sx, sy] = camera.slope, a = camera.axes, c = camera.centre;
    return [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([u, v]) => [0, 1, 2].map((k) => c[k] + depth * (u * sx * a[k] + v * sy * a[3 + k] + a[6 + k])));
  }

  function drawCameras(A, ratio) {
    shown = new Map();
    const depth = 0.25 * (cameraSize.value / 100) ** 1.5;
    const style = getComputedStyle(root), plain = onPaper ? "#000" : style.getPropertyValue("--ink"), lit = style.getPropertyValue("--amber");
    const listed = model.cameras.map((camera) => [camera, project(A, camera.centre)]).filter(([, at]) => at[2] > 0.05).sort((a, b) => b[1][2] - a[1][2]);
    for (const [camera, at] of listed) {
      shown.set(camera.photo, at);
      if (depth === 0) continue;
      const big = camera.photo === chosen, quad = corners(camera, big ? 1.8 * depth : depth).map((p) => project(A, p));
      if (quad.some((p) => p[2] <= 0.05)) continue;
      const image = withPhotos.checked || big ? photoImage(camera.photo) : null;
      if (image?.complete && image.naturalWidth) {
        const [p, q, , s] = quad, iw = image.naturalWidth, ih = image.naturalHeight;
        pen.save();
        pen.beginPath(); quad.forEach((c) => pen.lineTo(c[0], c[1])); pen.clip();
        pen.globalAlpha = big ? 1 : 0.85;
        pen.transform((q[0] - p[0]) / iw, (q[1] - p[1]) / iw, (s[0] - p[0]) / ih, (s[1] - p[1]) / ih, p[0], p[1]);
        pen.drawImage(image, 0, 0);
        pen.restore();
      }
      pen.strokeStyle = big ? lit : plain; pen.globalAlpha = big ? 1 : 0.62; pen.lineWidth = (big ? 2 : 1) * ratio;
      pen.beginPath();
      for (const c of quad) { pen.moveTo(at[0], at[1]); pen.lineTo(c[0], c[1]); }
      pen.moveTo(quad[3][0], quad[3][1]);
      for (const c of quad) pen.lineTo(c[0], c[1]);
      pen.stroke();
    }
    pen.globalAlpha = 1;
  }

  function draw() { if (!waiting) { waiting = true; requestAnimationFrame(render); } }
  function change(values) { Object.assign(eye, values); draw(); }
  function turn(dx, dy) { change({ turn: eye.turn - dx, tilt: Math.max(-1.5, Math.min(1.5, eye.tilt + dy)) }); }
  function move(dx, dy) { const A = axes(); change({ target: eye.target.map((t, k) => t - eye.away * (dx * A[0][k] + dy * A[1][k])) }); }
  function nearer(factor) { change({ away: Math.max(0.08, Math.min(40, eye.away * factor)) }); }

  const held = new Map();
  let travelled = 0;
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); held.set(event.pointerId, [event.clientX, event.clientY]); travelled = 0; });
  canvas.addEventListener("pointermove", (event) => {
    if (!held.has(event.pointerId)) return;
    const before = held.get(event.pointerId), now = [event.clientX, event.clientY], side = canvas.clientHeight;
    const dx = (now[0] - before[0]) / side, dy = (now[1] - before[1]) / side;
    travelled += Math.abs(dx) + Math.abs(dy);
    if (held.size === 2) {
      const other = [...held].find(([id]) => id !== event.pointerId)[1], gap = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
      nearer(gap(before) / Math.max(gap(now), 1)); move(dx / 2, dy / 2);
    } else if (event.shiftKey || event.buttons & 6) move(dx, dy);
    else turn(4 * dx, 3 * dy);
    held.set(event.pointerId, now);
  });
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => {
    held.delete(event.pointerId);
    if (kind === "pointerup" && travelled < 0.01) pick(event);
  });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); nearer(Math.exp(event.deltaY * 0.0012)); }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own
    const step = { ArrowLeft: [-0.12, 0], ArrowRight: [0.12, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
    if (step) event.shiftKey ? move(-step[0] / 3, -step[1] / 3) : turn(...step);
    else if (event.key === "+" || event.key === "=") nearer(0.85);
    else if (event.key === "-") nearer(1 / 0.85);
    else if (event.key === "0") reset();
    else if (event.key === "n" || event.key === "p") follow(event.key === "n" ? 1 : -1);
    else if (event.key === "Escape") choose(-1);
    else return;
    event.preventDefault();
  });
  function reset() { eye = { ...start, target: [...start.target] }; draw(); }
  function follow(step) { // the camera after the chosen one, or before it, by name
    const photos = model.cameras.map((camera) => camera.photo).sort((a, b) => a - b);
    const at = photos.indexOf(chosen);
    choose(photos[at < 0 ? (step > 0 ? 0 : photos.length - 1) : (at + step + photos.length) % photos.length]);
  }
  function pick(event) {
    const box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width;
    const x = (event.clientX - box.left) * ratio, y = (event.clientY - box.top) * ratio;
    let best = -1, least = 22 * ratio;
    for (const [photo, at] of shown) { const gap = Math.hypot(at[0] - x, at[1] - y); if (gap < least) { least = gap; best = photo; } }
    choose(best);
  }
  function show(index) {
    const card = $("scene-card"), row = $(`photo-${index}`);
    const at = scene.models.findIndex((each) => each.cameras.some((camera) => camera.photo === index));
    card.hidden = at < 0 || !row;
    if (!card.hidden) {
      const picker = $("scene-model");
      if (picker && +picker.value !== at) { picker.value = at; load(at); }
      const image = photoImage(index), link = document.createElement("a"), figures = document.createElement("div");
      const error = row.dataset.error < 0 ? "" : `error ${(+row.dataset.error).toFixed(2)} px, `;
      figures.textContent = `${Math.max(0, row.dataset.points).toLocaleString("en")} points, ${error}${row.dataset.partners} partners`;
      link.href = `#photo-${index}`; link.textContent = "in the table";
      card.replaceChildren(...(image ? [image.cloneNode()] : []), photoName(index), figures, link);
    }
    draw();
  }
  for (const input of [size, cameraSize, withPhotos]) input.addEventListener("input", draw);
  colour.addEventListener("change", () => { paint(); draw(); });
  $("scene-model")?.addEventListener("change", (event) => { load(+event.target.value); reset(); });
  $("scene-reset").addEventListener("click", reset);
  // A printed page takes the picture as it is, at the size that it has on the screen; cameras are black on it.
  new ResizeObserver(() => { if (!onPaper) draw(); }).observe(canvas);
  addEventListener("beforeprint", () => { onPaper = true; render(); });
  addEventListener("afterprint", () => { onPaper = false; draw(); });
  load(0);
  return { draw, show };
}
})();
