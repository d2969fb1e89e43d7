"use strict";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const WAIT_MS = 250; // after the last change of a control
const RANGES = {
  budget: (value) => `${value}%`,
  eta: (value) => value,
};

let models = [];
let limits = {};
let file = null;
let timer = 0;
let running = null; // AbortController of the requests on their way
let curve = null; // of this picture, model, objective and kind of picture
let curveKey = "";
let last = null; // the last answer
let pictureUrl = "";

function choice() {
  return document.querySelector("input[name=choice]:checked").value;
}

function show(id, visible) {
  $(id).hidden = !visible;
}

function say(text) {
  $("status").textContent = text;
}

function complain(text) {
  $("error").textContent = text;
  show("error", text !== "");
}

function showValues() {
  for (const [name, words] of Object.entries(RANGES)) {
    $(`${name}-value`).value = words($(name).value);
    $(name).setAttribute("aria-valuetext", words($(name).value));
  }
}

function fillWidths() {
  const model = models.find((each) => each.name === $("model").value);
  const kept = $("width").value;
  $("width").replaceChildren(...model.branches.map((name) => new Option(name, name)));
  $("width").value = model.branches.includes(kept) ? kept : model.branches.at(-1);
}

function common() {
  const query = new URLSearchParams({ model: $("model").value, objective: $("objective").value });
  if ($("truth").checked) query.set("truth", "1");
  return query;
}

async function post(path, query, signal) {
  const headers = { Accept: "application/json", "Content-Type": "application/octet-stream" };
  for (;;) {
    const response = await fetch(`${path}?${query}`, { method: "POST", body: file, headers, signal });
    if (response.status === 429) {
      const seconds = Number(response.headers.get("Retry-After")) || 1;
      say(`The server is busy; trying again in ${seconds} s.`);
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      signal.throwIfAborted();
      continue;
    }
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    return answer;
  }
}

function later() {
  showValues();
  clearTimeout(timer);
  timer = setTimeout(run, WAIT_MS);
}

async function run() {
  running?.abort();
  if (!file) return;
  const control = new AbortController();
  running = control;
  complain("");
  if (file.size > limits.body_bytes) {
    say("");
    complain(`The file has ${file.size} bytes, over the ${limits.body_bytes} that this server takes.`);
    return;
  }
  say("Upscaling…");
  $("result").setAttribute("aria-busy", "true");
  const query = common();
  const key = `${query}|${file.name}|${file.size}|${file.lastModified}`;
  const how = choice();
  query.set(how, how === "budget" ? RANGES.budget($(how).value) : $(how).value);
  try {
    last = await post("/upscale", query, control.signal);
    showResult();
    if (key !== curveKey) {
      curve = null;
      drawCurve();
      curve = await post("/curve", common(), control.signal);
      curveKey = key;
    }
    drawCurve();
  } catch (error) {
    if (control.signal.aborted) return;
    say("");
    complain(error instanceof TypeError ? "The server does not answer." : error.message);
  } finally {
    if (running === control) $("result").removeAttribute("aria-busy");
  }
}

function row(...cells) {
  const element = document.createElement("tr");
  cells.forEach((content, number) => {
    const cell = document.createElement(number ? "td" : "th");
    if (!number) cell.scope = "row";
    cell.append(...[content].flat());
    element.append(cell);
  });
  return element;
}

const decibels = (value) => (value === null ? "identical" : `${value.toFixed(2)} dB`);
const gmac = (macs) => (macs / 1e9).toFixed(2);

function showResult() {
  const { report, heat_map: heat } = last;
  const bytes = Uint8Array.from(atob(last.picture), (letter) => letter.charCodeAt(0));
  URL.revokeObjectURL(pictureUrl);
  pictureUrl = URL.createObjectURL(new Blob([bytes], { type: last.media_type }));
  $("picture").src = pictureUrl;
  $("picture").width = report.output.width;
  $("picture").height = report.output.height;
  $("picture").alt = `The picture, ${report.output.width}x${report.output.height}, upscaled from ${report.input.width}x${report.input.height}`;
  $("download").href = pictureUrl;
  $("download").download = `${file.name.replace(/\.[^.]*$/, "")}_x${report.scale}.png`;

  const share = report.macs.computed / report.macs.largest;
  const time = report.time_ms;
  const facts = [
    ["Size", `${report.output.width}x${report.output.height}`],
    ["MACs", `${gmac(report.macs.computed)} G, ${(100 * share).toFixed(1)}% of the largest sub-net`],
    ["Time", `${(time.plan + time.infer + time.stitch).toFixed(0)} ms, ${time.total.toFixed(0)} ms with files`],
  ];
  if (report.predicted_psnr !== null) facts.push(["Predicted PSNR", decibels(report.predicted_psnr)]);
  if (report.psnr) {
    facts.push(["PSNR, all pixels", decibels(report.psnr.rgb_all)]);
    facts.push(["PSNR, Y", decibels(report.psnr.y)]);
  }
  facts.push(["Engine", `${report.backend}, ${report.precision}`]);
  if (report.note) facts.push(["Note", report.note]);
  $("facts").tBodies[0].replaceChildren(...facts.map((pair) => row(...pair)));

  const patches = heat.rows.length * heat.rows[0].length;
  $("legend").tBodies[0].replaceChildren(
    ...heat.branches.map((branch) => {
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.backgroundColor = branch.colour;
      const counted = `${branch.patches} (${((100 * branch.patches) / patches).toFixed(0)}%)`;
      return row([swatch, branch.name], counted, gmac(branch.macs));
    }),
  );
  drawHeat(heat, report.output);
  show("result", true);
  const measured = report.psnr ? `, PSNR ${decibels(report.psnr.rgb_all)}` : "";
  say(`Done: ${facts[0][1]} in ${facts[2][1]}${measured}.`);
}

function drawHeat(heat, size) {
  // A dot a patch would stretch the last row and column, which may be cut.
  const canvas = $("heat");
  const step = Math.max(1, Math.ceil(Math.max(size.width, size.height) / 2048));
  canvas.width = Math.ceil(size.width / step);
  canvas.height = Math.ceil(size.height / step);
  const context = canvas.getContext("2d");
  const side = heat.patch / step;
  heat.rows.forEach((numbers, y) =>
    numbers.forEach((number, x) => {
      context.fillStyle = heat.branches[number].colour;
      const [left, top] = [Math.round(x * side), Math.round(y * side)];
      context.fillRect(left, top, Math.round((x + 1) * side) - left, Math.round((y + 1) * side) - top);
    }),
  );
}

function draw(parent, name, attributes, text = "") {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  parent.append(element);
  return element;
}

function drawCurve() {
  show("curve-section", curve !== null);
  if (!curve) return;
  const svg = $("curve");
  svg.replaceChildren($("curve-title"));
  const { report } = last;
  const points = curve.points.filter((point) => point.psnr !== null);
  const branches = curve.branches.filter((branch) => branch.psnr !== null);
  const cost = report.macs.planned / report.macs.largest;
  const alone = branches.find((branch) => branch.name === report.budget.requested) ?? branches.at(-1);
  const predicted = report.predicted_psnr ?? (report.budget.kind === "deadline" ? null : alone?.psnr ?? null);
  const measured = report.psnr?.rgb_all ?? null;
  const heights = [...points, ...branches].map((each) => each.psnr);
  heights.push(...[predicted, measured].filter((value) => value !== null));
  const low = Math.floor(Math.min(...heights) - 0.2);
  const high = Math.ceil(Math.max(...heights) + 0.2);
  const most = Math.max(1, cost);
  const x = (value) => 50 + (410 * value) / most;
  const y = (value) => 260 - (240 * (value - low)) / (high - low);

  draw(svg, "path", { class: "axis", d: "M50,20 V260 H460" });
  for (let share = 0; share <= most; share += 0.25) {
    draw(svg, "text", { x: x(share), y: 276, "text-anchor": "middle" }, `${100 * share}%`);
  }
  draw(svg, "text", { x: 255, y: 294, "text-anchor": "middle" }, "MACs, of one pass of the largest sub-net");
  const step = Math.max(1, Math.round((high - low) / 5));
  for (let level = low; level <= high; level += step) {
    draw(svg, "text", { x: 45, y: y(level) + 4, "text-anchor": "end" }, `${level}`);
  }
  draw(svg, "text", { x: 6, y: 13 }, "dB, predicted");
  draw(svg, "polyline", { class: "line", points: points.map((p) => `${x(p.cost)},${y(p.psnr)}`).join(" ") });
  for (const branch of branches) {
    const [left, top] = [x(branch.cost), y(branch.psnr)];
    draw(svg, "path", { class: "branch", d: `M${left - 5},${top + 4} h10 l-5,-9 z` });
    draw(svg, "text", { x: left - 4, y: top + 18, "text-anchor": branch.cost > 0.5 ? "end" : "start" }, branch.name);
  }
  if (predicted !== null) draw(svg, "circle", { id: "now", class: "now", cx: x(cost), cy: y(predicted), r: 6 });
  if (measured !== null) {
    draw(svg, "rect", { id: "measured", class: "now", x: x(cost) - 5, y: y(measured) - 5, width: 10, height: 10 });
  }
  show("measured-hint", measured !== null);
  const words = predicted === null ? "" : `; this picture: ${decibels(predicted)} at ${(100 * cost).toFixed(0)}%`;
  $("curve-title").textContent = `Predicted PSNR over the share of the largest sub-net's MACs${words}`;
  $("points").tBodies[0].replaceChildren(
    ...points.map((point) => row(point.budget, `${(100 * point.cost).toFixed(1)}%`, decibels(point.psnr))),
  );
}

function take(taken) {
  if (!taken) return;
  file = taken;
  later();
}

async function start() {
  const answer = await (await fetch("/models")).json();
  ({ models, limits } = answer);
  $("model").replaceChildren(...models.map((model) => new Option(`${model.name} (x${model.scale})`, model.name)));
  fillWidths();
  showValues();

  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("file").addEventListener("change", () => take($("file").files[0]));
  $("model").addEventListener("change", fillWidths);
  for (const name of ["budget", "eta", "width"]) {
    $(name).addEventListener(name === "width" ? "change" : "input", () => {
      document.querySelector(`input[name=choice][value=${name}]`).checked = true;
      showValues();
    });
  }
  $("controls").addEventListener("change", (event) => {
    if (event.target !== $("file")) later();
  });
  $("show-heat").addEventListener("change", () => show("heat", $("show-heat").checked));
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dragging", name === "dragover");
    });
  }
  document.addEventListener("drop", (event) => take(event.dataTransfer.files[0]));
  document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
}

start().catch(() => complain("The server does not answer."));
