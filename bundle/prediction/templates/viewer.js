"use strict";
// Three slices through one place, drawn from a sheet of all axial slices. Without this the page has its montage.
const viewer = document.querySelector(".viewer");

async function read(image) {
  await image.decode();
  const sheet = document.createElement("canvas");
  [sheet.width, sheet.height] = [image.naturalWidth, image.naturalHeight];
  const context = sheet.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, sheet.width, sheet.height);
}

async function start() {
  const [columns, step, bar] = ["columns", "step", "bar"].map((name) => Number(viewer.dataset[name]));
  const [scan, map] = await Promise.all([...viewer.querySelectorAll("img.sprite")].map(read));
  const sliders = [...viewer.querySelectorAll("input[type=range]")];
  const canvases = [...viewer.querySelectorAll("canvas")];
  const texts = [...viewer.querySelectorAll(".at")];
  const toggle = viewer.querySelector("input[type=checkbox]");
  const lows = sliders.map((slider) => Number(slider.min));
  const size = sliders.map((slider, i) => Math.round((Number(slider.max) - lows[i]) / step) + 1);
  const ways = [["left", "right"], ["back", "front"], ["down", "up"]]; // of negative and positive millimetres

  const voxels = () => sliders.map((slider, i) => Math.round((Number(slider.value) - lows[i]) / step));

  function offset([x, y, z]) {
    const row = Math.floor(z / columns) * size[1] + size[1] - 1 - y;
    return 4 * (row * scan.width + (z % columns) * size[0] + x);
  }

  function draw(axis, place) {
    const [across, upward] = [0, 1, 2].filter((other) => other !== axis);
    const canvas = canvases[axis];
    [canvas.width, canvas.height] = [size[across], size[upward]];
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(canvas.width, canvas.height);
    const voxel = [...place];
    for (let v = 0, to = 0; v < canvas.height; v++) {
      voxel[upward] = canvas.height - 1 - v;
      for (let u = 0; u < canvas.width; u++, to += 4) {
        voxel[across] = u;
        const from = offset(voxel);
        const share = map && toggle.checked ? map.data[from + 3] / 255 : 0;
        for (let c = 0; c < 3; c++) {
          pixels.data[to + c] = (1 - share) * scan.data[from + c] + (share ? share * map.data[from + c] : 0);
        }
        pixels.data[to + 3] = 255;
      }
    }
    context.putImageData(pixels, 0, 0);
    context.fillStyle = "rgb(255 255 255 / 45%)"; // lines through the place, and the scale bar
    context.fillRect(place[across], 0, 1, canvas.height);
    context.fillRect(0, canvas.height - 1 - place[upward], canvas.width, 1);
    context.fillStyle = "white";
    context.fillRect(4, canvas.height - 5, bar, 2);
  }

  function update() {
    const place = voxels();
    sliders.forEach((slider, axis) => {
      const mm = Number(slider.value);
      texts[axis].textContent = `${String(mm).replace("-", "−")} mm`;
      slider.ariaValueText = `${Math.abs(mm)} millimetres ${mm === 0 ? "" : ways[axis][mm < 0 ? 0 : 1]}`.trim();
      canvases[axis].ariaLabel = `${canvases[axis].dataset.plane} slice at ${texts[axis].textContent}`;
      draw(axis, place);
    });
  }

  canvases.forEach((canvas, axis) => {
    const [across, upward] = [0, 1, 2].filter((other) => other !== axis);
    canvas.addEventListener("click", (event) => {
      const box = canvas.getBoundingClientRect();
      sliders[across].value = lows[across] + Math.floor(((event.clientX - box.left) / box.width) * size[across]) * step;
      sliders[upward].value = lows[upward] + Math.floor(((box.bottom - event.clientY) / box.height) * size[upward]) * step;
      update();
    });
  });
  sliders.forEach((slider) => slider.addEventListener("input", update));
  toggle?.addEventListener("input", update);
  update();
  viewer.hidden = false;
  document.querySelector(".instead").remove();
}

if (viewer) start();
