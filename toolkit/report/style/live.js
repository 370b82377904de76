// The live panel: a picture to change, and what every neuron makes of it.
(async () => {
  "use strict";

  const found = document.getElementById("live-data");
  if (!found) return;
  const data = JSON.parse(found.textContent);
  const { width, height } = data;
  const part = (name) => document.getElementById(`live-${name}`);
  const panel = part("panel");
  panel.hidden = false; // at once, so that nothing below it moves when the model is there
  let model;

  const PITCH = 14, SIDE = 12;
  const number = (value) => value.toLocaleString("en-US");
  const figure = (value) => (value === 0 ? "0" : String(Number(value.toPrecision(3))));
  const nameOf = (at) => (data.names ? data.names[at] : data.outputs > 1 ? `answer ${at}` : "answer");

  let pixels = new Uint8Array(width * height);
  let original = pixels.slice();
  let row = null; // the one that the picture began as
  let x = width >> 1, y = height >> 1;

  // ---- the layers

  const layers = data.layers.map((layer, at) => {
    const lines = Math.ceil(layer.drawn / layer.columns);
    const [wide, tall] = [layer.columns * PITCH + 1, lines * PITCH + 1];
    const rects = Array.from({ length: layer.drawn }, (_, cell) => {
      const [left, top] = [(cell % layer.columns) * PITCH + 1, Math.floor(cell / layer.columns) * PITCH + 1];
      return `<rect x="${left}" y="${top}" width="${SIDE}" height="${SIDE}"><title></title></rect>`;
    });
    part(`layer-${at}`).innerHTML =
      `<svg class="cells" role="img" viewBox="0 0 ${wide} ${tall}" width="${1.5 * wide}" height="${1.5 * tall}">` +
      `${rects.join("")}</svg>`;
    const svg = part(`layer-${at}`).firstChild, cells = [...svg.children];
    const value = (cell) => layer.scale * (model.layers[at][cell] - layer.zero);
    // Hundreds of texts of which one is read at most: it is written when the pointer comes.
    svg.addEventListener("pointerover", (event) => {
      const cell = cells.indexOf(event.target);
      if (cell >= 0) event.target.firstChild.textContent = `neuron ${cell}: ${figure(value(cell))}`;
    });
    return { ...layer, svg, cells, caption: part(`caption-${at}`) };
  });

  const showLayer = (layer, at) => {
    const values = model.layers[at];
    let largest = 1, active = 0;
    for (let cell = 0; cell < layer.neurons; cell++) {
      if (cell < layer.drawn) largest = Math.max(largest, Math.abs(values[cell] - layer.zero));
      active += values[cell] > layer.zero ? 1 : 0;
    }
    layer.cells.forEach((rect, cell) => {
      const value = values[cell] - layer.zero;
      rect.setAttribute("class", value > 0 ? "" : value < 0 ? "negative" : "off");
      rect.setAttribute("fill-opacity", value ? (0.12 + (0.88 * Math.abs(value)) / largest).toFixed(2) : 1);
    });
    let said = `${layer.name}: ${number(active)} of ${number(layer.neurons)} active`;
    if (layer.drawn < layer.neurons) said += ` (the first ${number(layer.drawn)} drawn)`;
    layer.caption.textContent = said;
    layer.svg.setAttribute("aria-label", said);
  };

  // ---- the answers

  const bars = Array.from({ length: data.shown }, () => {
    const line = document.createElement("li");
    const [name, track, value] = ["name", "track", "value"].map((kind) => {
      const span = document.createElement("span");
      span.className = `live-${kind}`;
      return line.appendChild(span);
    });
    const fill = track.appendChild(document.createElement("span"));
    part("answers").append(line);
    return { line, name, fill, value };
  });

  const showAnswers = (answers) => {
    let order = answers.map((_, at) => at);
    if (order.length > bars.length) order.sort((a, b) => answers[b] - answers[a]);
    const most = data.end ? 1 : Math.max(...answers.map(Math.abs), 1e-30);
    const said = answers.indexOf(Math.max(...answers));
    const label = row === null ? null : data.rows[row].label;
    bars.forEach(({ line, name, fill, value }, at) => {
      const answer = answers[order[at]];
      name.textContent = nameOf(order[at]);
      fill.style.width = `${(100 * Math.abs(answer)) / most}%`;
      fill.className = answer < 0 ? "negative" : "";
      value.textContent = data.end ? `${(100 * answer).toFixed(1)}%` : figure(answer);
      line.className = `${order[at] === said && answers.length > 1 ? "said" : ""} ${data.outputs > 1 && order[at] === label ? "true" : ""}`.trim();
    });
    return said;
  };

  // Screen readers say this; while somebody draws, not at every pixel.
  let waiting;
  const say = (said, answers) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const share = data.end ? `${(100 * answers[said]).toFixed(1)}%` : figure(answers[said]);
      let text = `Says ${nameOf(said)} (${share}).`;
      if (row !== null && data.rows[row].label !== null)
        text += ` Test row ${number(data.rows[row].row)} is ${data.rows[row].title}.`;
      part("said").textContent = text;
    }, 150);
  };

  try {
    model = await liveModel(data);
  } catch (error) {
    panel.hidden = true;
    part("failed").textContent = `This browser does not run the model: ${error.message}`;
    part("failed").hidden = false;
    return;
  }
  panel.model = model; // for a console, and for tests

  // ---- the picture

  const canvas = part("canvas").getContext("2d");
  const image = canvas.createImageData(width, height);
  const shades = new DataView(image.data.buffer);

  const update = () => {
    let changed = 0;
    for (let at = 0; at < pixels.length; at++) {
      shades.setUint32(4 * at, pixels[at] * 0x1010100 + 255);
      changed += pixels[at] === original[at] ? 0 : 1;
    }
    canvas.putImageData(image, 0, 0);
    part("pixels").textContent = `${number(pixels.length)} pixels${changed ? `, ${number(changed)} changed` : ""}`;
    const answers = model.answers(model.run(pixels));
    layers.forEach(showLayer);
    say(showAnswers(answers), answers);
  };

  const showSpot = () => {
    const mark = part("mark").style;
    mark.left = `${(100 * x) / width}%`;
    mark.top = `${(100 * y) / height}%`;
    mark.width = `${100 / width}%`;
    mark.height = `${100 / height}%`;
    part("spot").textContent = `column ${x}, row ${y}: ${pixels[y * width + x]}`;
  };

  const paint = (erase) => {
    const size = Number(part("width").value), grey = Number(part("grey").value), before = (size - 1) >> 1;
    for (let line = Math.max(0, y - before); line < Math.min(height, y - before + size); line++)
      for (let column = Math.max(0, x - before); column < Math.min(width, x - before + size); column++)
        pixels[line * width + column] = erase ? 0 : grey;
  };

  const erases = () => panel.querySelector("input[name=live-pen]:checked").value === "erase";

  // Every pixel is taken from the place that `from` names; what comes from outside is black.
  const move = (from) => {
    const before = pixels.slice();
    pixels.forEach((_, at) => {
      const [column, line] = from(at % width, Math.floor(at / width));
      pixels[at] = column >= 0 && column < width && line >= 0 && line < height ? before[line * width + column] : 0;
    });
    update();
    showSpot();
  };
  const shift = (right, down) => move((column, line) => [column - right, line - down]);

  const start = (which) => {
    row = which;
    pixels = which === null ? new Uint8Array(width * height) : model.picture(which);
    original = pixels.slice();
    update();
    showSpot();
  };

  // ---- pointer and keys

  const picture = part("picture");
  const pointed = (event) => {
    const box = part("canvas").getBoundingClientRect();
    const inside = (value, size) => Math.min(size - 1, Math.max(0, Math.floor(value * size)));
    return [inside((event.clientX - box.left) / box.width, width), inside((event.clientY - box.top) / box.height, height)];
  };
  let drawing = false;
  picture.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    picture.setPointerCapture(event.pointerId);
    drawing = true;
    [x, y] = pointed(event);
    paint(erases());
    update();
    showSpot();
  });
  picture.addEventListener("pointermove", (event) => {
    const [column, line] = pointed(event);
    if (drawing) {
      // A fast pointer leaves gaps, which a line fills.
      const steps = Math.max(Math.abs(column - x), Math.abs(line - y));
      const [fromX, fromY] = [x, y];
      for (let step = 1; step <= steps; step++) {
        x = Math.round(fromX + ((column - fromX) * step) / steps);
        y = Math.round(fromY + ((line - fromY) * step) / steps);
        paint(erases());
      }
      if (steps) update();
    }
    [x, y] = [column, line];
    showSpot();
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"])
    picture.addEventListener(end, () => { drawing = false; });

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  picture.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const way = ARROWS[event.key];
    if (way && event.shiftKey) shift(...way);
    else if (way) {
      x = Math.min(width - 1, Math.max(0, x + way[0]));
      y = Math.min(height - 1, Math.max(0, y + way[1]));
    } else if ([" ", "Enter", "Backspace", "Delete"].includes(event.key)) {
      paint(erases() || event.key === "Backspace" || event.key === "Delete");
      update();
    } else return;
    event.preventDefault();
    showSpot();
  });

  // ---- buttons

  const press = (name, act) => part(name)?.addEventListener("click", act);
  press("shift-left", () => shift(-1, 0));
  press("shift-right", () => shift(1, 0));
  press("shift-up", () => shift(0, -1));
  press("shift-down", () => shift(0, 1));
  press("mirror", () => move((column, line) => [width - 1 - column, line]));
  press("turn", () => move((column, line) => [column, height - 1 - line]));
  press("clear", () => move(() => [-1, -1]));
  press("reset", () => start(row));

  const choice = part("row");
  const choose = (by) => {
    choice.selectedIndex = (choice.selectedIndex + by + choice.length) % choice.length;
    start(Number(choice.value));
  };
  choice?.addEventListener("change", () => choose(0));
  press("previous", () => choose(-1));
  press("next", () => choose(1));

  // ---- is it the same model, and how fast

  if (data.rows.length) {
    const same = model.same(), all = data.rows.length;
    part("proof").classList.add(same === all ? "good" : "bad");
    part("proof").textContent =
      same === all
        ? `On all ${number(all)} test rows of this panel it gives the very bits that onnxruntime gave for ${data.file}.`
        : `On ${number(all - same)} of ${number(all)} test rows it gives other bits than onnxruntime gave for ${data.file}.`;
  }
  if (choice) choose(0);
  else start(null);

  const measure = async () => {
    const { microseconds, runs } = await model.time();
    const took = microseconds >= 100 ? microseconds.toFixed(0) : microseconds.toFixed(1);
    part("time").textContent =
      `A run takes ${took} \u00b5s here, on average over ${number(runs)} runs ${model.vectors ? "with" : "without"} vectors (SIMD).`;
  };
  press("measure", measure);
  measure();
})();
