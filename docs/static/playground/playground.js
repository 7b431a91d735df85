// The playground: classify a picture with ONNX Runtime, and show what the network computes.

const base = new URL(".", import.meta.url);
const ort = await import(new URL("ort.wasm.bundle.min.mjs", base).href);
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.wasm", base).href };

const SIDE = 32; // pixels that a network sees
const SIZE = 256; // of the picture on the page
const STAGES = { stage1: "stage 1 (32×32)", stage2: "stage 2 (16×16)", stage3: "stage 3 (8×8)" };
const SLIDERS = {
  right: (x) => `${x} px`, down: (x) => `${x} px`, turn: (x) => `${x}°`, blur: (x) => `${x} px`,
};
const SAMPLES = {
  airplane: `<rect width="64" height="64" fill="#8fc1ea"/><path d="M6 36l44-12c6-1 10 2 8 5L14 42z" fill="#f4f4f4"/>
    <path d="M30 32L18 14h6l18 16zM34 38L26 56h5l16-21z" fill="#c9ced6"/><path d="M10 35L4 24h5l9 10z" fill="#d55e00"/>`,
  ship: `<rect width="64" height="40" fill="#bcd9ee"/><rect y="40" width="64" height="24" fill="#2a5c86"/>
    <path d="M6 38h52l-8 12H14z" fill="#333"/><path d="M14 28h30v10H14z" fill="#eee"/><path d="M32 16h8v12h-8z" fill="#d55e00"/>`,
  truck: `<rect width="64" height="64" fill="#cfd8dc"/><rect y="48" width="64" height="16" fill="#777"/>
    <path d="M6 18h34v28H6z" fill="#eee"/><path d="M42 26h10l6 9v11H42z" fill="#c62828"/><path d="M45 29h6l4 6H45z" fill="#a9d3ee"/>
    <circle cx="17" cy="48" r="6"/><circle cx="48" cy="48" r="6"/>`,
  frog: `<rect width="64" height="64" fill="#7a5c3a"/><ellipse cx="32" cy="40" rx="20" ry="14" fill="#4c8f2f"/>
    <circle cx="22" cy="24" r="7" fill="#5aa637"/><circle cx="42" cy="24" r="7" fill="#5aa637"/><circle cx="22" cy="23" r="3"/>
    <circle cx="42" cy="23" r="3"/><path d="M20 42q12 8 24 0" fill="none" stroke="#1d3d10" stroke-width="2"/>`,
};

const $ = (id) => document.getElementById(id);
const picture = $("picture"), pen = picture.getContext("2d", { willReadFrequently: true });
let source = newCanvas(SIZE); // the picture before shifts, blur and rotation
let models = [], model, session, outputs, isRunning = false, isStale = false, pending = 0, loads = 0;
let brush = { x: SIZE / 2, y: SIZE / 2 };

function newCanvas(side) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, side, side);
  return canvas;
}

// Count what is going on; assistive technology waits until nothing is.
function busy(change) {
  pending += change;
  $("play").setAttribute("aria-busy", pending > 0);
}

function report(message) {
  $("problem").hidden = !message;
  $("problem").textContent = message;
}

// Pictures

async function load(blob, name) {
  const number = ++loads; // the picture that was given last wins, whichever is decoded first
  busy(1);
  try {
    const whole = await createImageBitmap(blob, { colorSpaceConversion: "none" });
    const side = Math.min(whole.width, whole.height);
    const x = Math.floor((whole.width - side) / 2), y = Math.floor((whole.height - side) / 2);
    const size = Math.min(side, SIZE);
    const square = await createImageBitmap(whole, x, y, side, side, {
      resizeWidth: size, resizeHeight: size, resizeQuality: "high",
    });
    if (number === loads) {
      source = newCanvas(size);
      source.getContext("2d").drawImage(square, 0, 0);
      report("");
      reset();
    }
  } catch {
    if (number === loads) report(`${name} is not a picture that this browser can read: choose a PNG, JPEG, WebP or GIF file.`);
  }
  busy(-1);
}

function show() {
  pen.imageSmoothingEnabled = source.width >= SIZE;
  pen.drawImage(source, 0, 0, SIZE, SIZE);
}

function paint(x, y, from) {
  if (source.width < SIZE) source = enlarged(source);
  const context = source.getContext("2d");
  context.strokeStyle = $("colour").value;
  context.lineWidth = Number($("brush").value);
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(from?.x ?? x, from?.y ?? y);
  context.lineTo(x + 0.01, y);
  context.stroke();
  brush = { x, y };
  update();
}

function enlarged(small) {
  const large = newCanvas(SIZE);
  large.getContext("2d").drawImage(small, 0, 0, SIZE, SIZE);
  return large;
}

function slider(id) {
  return Number($(id).value);
}

// Return the canvas of 32×32 pixels that the network sees.
function seen() {
  const canvas = $("seen"), context = canvas.getContext("2d", { willReadFrequently: true });
  const [right, down, turn] = ["right", "down", "turn"].map(slider);
  let small = source;
  while (small.width >= 4 * SIDE) small = halved(small); // browsers skip pixels in larger steps
  context.imageSmoothingQuality = "high";
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = "#808080";
  context.fillRect(0, 0, SIDE, SIDE);
  context.translate(SIDE / 2 + right, SIDE / 2 + down);
  context.rotate((turn * Math.PI) / 180);
  context.drawImage(small, -SIDE / 2, -SIDE / 2, SIDE, SIDE);
  const image = context.getImageData(0, 0, SIDE, SIDE);
  blur(image.data, slider("blur"));
  context.putImageData(image, 0, 0);
  return image.data;
}

function halved(canvas) {
  const half = newCanvas(canvas.width / 2);
  half.getContext("2d").drawImage(canvas, 0, 0, half.width, half.width);
  return half;
}

// Blur pixels in place by a Gaussian with the given standard deviation.
function blur(data, sigma) {
  if (!sigma) return;
  const radius = Math.ceil(3 * sigma), weights = [];
  for (let i = -radius; i <= radius; i++) weights.push(Math.exp(-(i * i) / (2 * sigma * sigma)));
  const total = weights.reduce((a, b) => a + b);
  for (const [along, across] of [[4, 4 * SIDE], [4 * SIDE, 4]]) {
    const before = Float32Array.from(data);
    for (let a = 0; a < SIDE; a++) for (let b = 0; b < SIDE; b++) for (let c = 0; c < 3; c++) {
      let sum = 0;
      for (let i = -radius; i <= radius; i++) {
        const at = Math.min(SIDE - 1, Math.max(0, a + i));
        sum += weights[i + radius] * before[at * along + b * across + c];
      }
      data[a * along + b * across + c] = sum / total;
    }
  }
}

// The network

async function choose(name) {
  $("status").textContent = "The network is loading …";
  busy(1);
  try {
    const found = models.find((each) => each.name === name);
    const opened = await ort.InferenceSession.create(new URL(found.file, base).href, { executionProviders: ["wasm"] });
    if ($("network").value === name) {
      [model, session] = [found, opened];
      $("class").replaceChildren(...["the first class", ...model.classes].map((text, i) => new Option(text, i - 1)));
      update();
    }
  } catch (error) {
    report(`The network could not be loaded (${error.message}). Reload the page to try again.`);
  }
  busy(-1);
}

// Classify the current picture; while a picture is being classified, only the latest one waits.
async function update() {
  show();
  for (const id in SLIDERS) document.querySelector(`output[for=${id}]`).textContent = SLIDERS[id](slider(id));
  const rgba = seen();
  if (!session) return;
  isStale = isRunning;
  if (isRunning) return;
  isRunning = true;
  busy(1);
  try {
    const pixels = new Uint8Array(3 * SIDE * SIDE);
    for (let i = 0; i < SIDE * SIDE; i++) for (let c = 0; c < 3; c++) pixels[c * SIDE * SIDE + i] = rgba[4 * i + c];
    const used = session;
    outputs = await used.run({ images: new ort.Tensor("uint8", pixels, [1, 3, SIDE, SIDE]) });
    if (used === session) present();
  } catch (error) {
    report(`The picture could not be classified (${error.message}).`);
  }
  isRunning = false;
  if (isStale) update();
  busy(-1);
}

function softmax(logits) {
  const highest = Math.max(...logits);
  const powers = Array.from(logits, (x) => Math.exp(x - highest));
  const total = powers.reduce((a, b) => a + b);
  return powers.map((x) => x / total);
}

function present() {
  const probabilities = softmax(outputs.logits.data);
  const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]);
  const rows = order.map((i, place) => {
    const row = document.createElement("tr");
    row.className = place ? "" : "first";
    row.dataset.probability = probabilities[i];
    row.innerHTML = `<th scope="row"></th><td><div class="bar"></div></td><td class="number"></td>`;
    row.children[0].textContent = model.classes[i];
    row.querySelector(".bar").style.width = `${100 * probabilities[i]}%`;
    row.children[2].textContent = `${(100 * probabilities[i]).toFixed(1)} %`;
    return row;
  });
  document.querySelector("#classes tbody").replaceChildren(...rows);
  const facts = `${model.name}, ${model.params.toLocaleString("en")} parameters, ${(100 * model.accuracy).toFixed(2)} % of test images right`;
  $("status").textContent = `${model.classes[order[0]]}, ${(100 * probabilities[order[0]]).toFixed(0)} % (${facts})`;
  const chosen = Number($("class").value);
  drawEvidence(chosen < 0 ? order[0] : chosen);
  drawMaps($("layer").value);
}

// Pictures of what the network computed

function grey(values, side) {
  const [low, high] = [Math.min(...values), Math.max(...values)], image = new ImageData(side, side);
  for (let i = 0; i < values.length; i++) {
    const value = (255 * (values[i] - low)) / (high - low || 1);
    image.data.set([value, value, value, 255], 4 * i);
  }
  return image;
}

function drawEvidence(index) {
  const [, , side] = outputs.evidence.dims, n = side * side;
  const values = Array.from(outputs.evidence.data.slice(index * n, (index + 1) * n), (x) => Math.max(0, x));
  const heat = newCanvas(side), context = $("evidence").getContext("2d"), image = grey(values, side);
  for (let i = 0; i < n; i++) image.data.set([213, 94, 0, Math.max(...values) ? 0.75 * image.data[4 * i] : 0], 4 * i);
  heat.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.filter = "grayscale(1)";
  context.drawImage($("seen"), 0, 0, SIZE, SIZE);
  context.filter = "none";
  context.imageSmoothingEnabled = true;
  context.drawImage(heat, 0, 0, SIZE, SIZE);
}

function drawMaps(layer) {
  const [, channels, side] = outputs[layer].dims, n = side * side;
  const columns = Math.ceil(Math.sqrt(channels)), step = SIZE / columns;
  const context = $("maps").getContext("2d"), tile = newCanvas(side);
  context.clearRect(0, 0, SIZE, SIZE);
  context.imageSmoothingEnabled = false;
  for (let i = 0; i < channels; i++) {
    tile.getContext("2d").putImageData(grey(outputs[layer].data.slice(i * n, (i + 1) * n), side), 0, 0);
    const [x, y] = [i % columns, Math.floor(i / columns)].map((each) => each * step);
    context.drawImage(tile, x, y, step - 2, step - 2);
  }
}

// Controls

function reset() {
  for (const id in SLIDERS) $(id).value = 0;
  update();
}

function position(event) {
  const box = picture.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * SIZE, ((event.clientY - box.top) / box.height) * SIZE];
}

picture.addEventListener("pointerdown", (event) => {
  picture.setPointerCapture(event.pointerId);
  paint(...position(event));
});
picture.addEventListener("pointermove", (event) => {
  if (event.buttons) paint(...position(event), brush);
});
picture.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8] }[event.key];
  if (step) {
    brush = { x: brush.x + step[0], y: brush.y + step[1] };
    brush.x = Math.min(SIZE, Math.max(0, brush.x));
    brush.y = Math.min(SIZE, Math.max(0, brush.y));
    show();
    pen.strokeRect(brush.x - 4, brush.y - 4, 8, 8);
  } else if (event.key === " ") {
    paint(brush.x, brush.y);
  } else {
    return;
  }
  event.preventDefault();
  event.stopPropagation(); // arrow keys elsewhere turn the pages of the documentation
});
$("clear").addEventListener("click", () => {
  source = newCanvas(SIZE);
  report("");
  reset();
});
$("reset").addEventListener("click", reset);
for (const id in SLIDERS) $(id).addEventListener("input", update);
$("network").addEventListener("change", (event) => choose(event.target.value));
for (const id of ["class", "layer"]) $(id).addEventListener("change", () => outputs && present());
$("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) load(file, file.name);
  event.target.value = "";
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files][0];
  if (file) load(file, file.name);
  else if (event.clipboardData.types.length) report("The clipboard contains no picture.");
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind !== "drop") return;
    const [file] = event.dataTransfer.files;
    if (file) load(file, file.name);
    else report("What was dropped is not a file: save the picture first, then drop or choose it.");
  });
}
for (const [name, shapes] of Object.entries(SAMPLES)) {
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="256" height="256" viewBox="0 0 64 64">${shapes}</svg>`;
  const button = document.createElement("button"), image = new Image();
  button.type = "button";
  image.alt = `Drawing of a ${name}`.replace("a a", "an a");
  image.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
  button.append(image);
  button.addEventListener("click", () => {
    source = newCanvas(SIZE);
    source.getContext("2d").drawImage(image, 0, 0, SIZE, SIZE);
    report("");
    reset();
  });
  $("samples").append(button);
}
$("layer").replaceChildren(...Object.entries(STAGES).map(([value, text]) => new Option(text, value)));

try {
  models = await (await fetch(new URL("models.json", base))).json();
  $("network").replaceChildren(...models.map((each) => new Option(`${each.name} (${(each.bytes / 1e6).toFixed(1)} MB)`, each.name)));
  document.querySelector("#samples button").click();
  await choose(models[0].name);
} catch (error) {
  report(`The playground could not start (${error.message}). Reload the page to try again.`);
}
