// Keys and sliders of the explorer. Every page says and does all else without this file.
"use strict";
(() => {
  document.documentElement.classList.add("scripted");
  const find = (selector) => document.querySelector(selector);
  const shots = [...document.querySelectorAll("#shots .shot")];
  const viewer = find("#viewer");
  const stage = find("#stage");

  // The slider: before on its left, after on its right.
  const slider = find("#slider");
  const opacity = find("#opacity");
  const cut = (percent) => {
    slider.value = percent;
    stage.style.setProperty("--cut", `${slider.value}%`);
  };
  if (stage) {
    viewer.classList.add("sliding");
    slider.closest("label").hidden = false;
    opacity.closest("label").hidden = false;
    slider.addEventListener("input", () => cut(slider.value));
    opacity.addEventListener("input", () => stage.style.setProperty("--opacity", opacity.value / 100));
    const drag = (event) => {
      if (event.buttons !== 1 || !viewer.classList.contains("sliding")) return;
      const box = stage.getBoundingClientRect();
      cut((100 * (event.clientX - box.left)) / box.width);
      event.preventDefault();
    };
    stage.addEventListener("pointerdown", drag);
    stage.addEventListener("pointermove", drag);
    stage.addEventListener("dragstart", (event) => event.preventDefault());
    cut(50);
  }

  // Overlays: d the difference, o the others by turns.
  const layers = ["mask", "saliency"].map((name) => find(`#layer-${name}`)).filter(Boolean);
  const usual = () => {
    opacity.value = find("#layer-difference").checked ? 100 : 70;
    stage.style.setProperty("--opacity", opacity.value / 100);
  };
  const lay = (radio) => {
    radio.checked = true;
    usual();
  };
  if (stage) viewer.querySelector(".layers").addEventListener("change", (event) => event.target.type === "radio" && usual());
  const difference = () => lay(find(`#layer-${find("#layer-difference").checked ? "none" : "difference"}`));
  const overlay = () => lay(layers[layers.findIndex((radio) => radio.checked) + 1] || find("#layer-none"));

  // Marks: the review form; the server knows the name that was given last.
  const form = find("#reviews form");
  const choices = form ? [...form.querySelectorAll("[name=mark] option, button[name=mark], input[name=mark]")].filter((choice) => choice.value) : [];
  if (form) find("#said").textContent = "Keys: " + choices.slice(0, 3).map((choice, i) => `${i + 1} ${choice.value}`).join(", ") + ".";
  const mark = (number) => {
    const choice = choices[number - 1];
    if (!choice) return;
    if (!form.reviewer.value.trim()) {
      find("#said").textContent = `Type your name first; then ${number} keeps “${choice.value}”.`;
      form.reviewer.focus();
      return;
    }
    if (choice.tagName === "BUTTON") return choice.click();
    if (choice.tagName === "OPTION") choice.selected = true;
    else choice.checked = true;
    form.requestSubmit();
  };

  // The gallery: from picture to picture.
  const step = (by) => {
    const here = shots.indexOf(document.activeElement);
    const next = shots[here < 0 ? (by > 0 ? 0 : shots.length - 1) : here + by];
    if (next) next.focus();
    else follow(by > 0 ? ".pages [aria-current=page] + a" : ".pages a:has(+ [aria-current=page])");
  };
  const follow = (selector) => find(selector)?.click();

  // A range is drawn on its histogram.
  for (const bars of document.querySelectorAll(".bars")) {
    const { low, high } = bars.dataset;
    const width = bars.viewBox.baseVal.width;
    const brush = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    let from = null;
    const bin = (event) => {
      const box = bars.getBoundingClientRect();
      return Math.max(0, Math.min(width - 1, Math.floor((width * (event.clientX - box.left)) / box.width)));
    };
    const ends = (to) => [Math.min(from, to), Math.max(from, to) + 1];
    const edge = (at) => Number((Number(low) + ((high - low) * at) / width).toPrecision(4));
    bars.addEventListener("pointerdown", (event) => {
      from = bin(event);
      bars.setPointerCapture(event.pointerId);
      brush.setAttribute("class", "brush");
      brush.setAttribute("height", 20);
      bars.append(brush);
      bars.dispatchEvent(new PointerEvent("pointermove", event));
    });
    bars.addEventListener("pointermove", (event) => {
      if (from === null) return;
      const [left, right] = ends(bin(event));
      brush.setAttribute("x", left);
      brush.setAttribute("width", right - left);
    });
    bars.addEventListener("pointerup", (event) => {
      if (from === null) return;
      const [left, right] = ends(bin(event));
      from = null;
      const range = bars.closest("form");
      range.querySelector("[name^='min.']").value = left === 0 ? "" : edge(left);
      range.querySelector("[name^='max.']").value = right === width ? "" : edge(right);
      range.requestSubmit();
    });
  }

  const keys = stage || form
    ? [
        ["j", "next explanation", () => follow("#next")],
        ["k", "previous explanation", () => follow("#previous")],
        ["1 2 3", "mark it " + choices.slice(0, 3).map((choice) => choice.value).join(", "), null],
        ["d", "difference on and off", difference],
        ["o", "mask, saliency, nothing over the picture", overlay],
        ["s", "slider, or both pictures side by side", () => viewer.classList.toggle("sliding")],
        ["← →", "move the slider", null],
        ["g", "back to the gallery", () => follow("#to-gallery")],
      ]
    : shots.length
      ? [
          ["j", "next picture", () => step(1)],
          ["k", "previous picture", () => step(-1)],
          ["Enter", "open it", null],
        ]
      : [];
  if (!keys.length) return;

  const help = document.createElement("dialog");
  help.className = "keys";
  help.setAttribute("aria-labelledby", "keys-title");
  const title = document.createElement("h2");
  title.id = "keys-title";
  title.textContent = "Keys";
  const list = document.createElement("dl");
  for (const [key, meaning] of [...keys, ["?", "this list"]]) {
    const name = document.createElement("dt");
    name.append(...key.split(" ").flatMap((one) => [Object.assign(document.createElement("kbd"), { textContent: one }), " "]));
    list.append(name, Object.assign(document.createElement("dd"), { textContent: meaning }));
  }
  const close = Object.assign(document.createElement("button"), { textContent: "Close" });
  close.addEventListener("click", () => help.close());
  help.append(title, list, close);
  const ask = Object.assign(document.createElement("button"), { className: "ask quiet", textContent: "?" });
  ask.setAttribute("aria-label", "Show the keys");
  ask.addEventListener("click", () => help.showModal());
  find("main").append(ask, help);

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    const typing = event.target.closest("textarea, select, input:not([type=range], [type=radio], [type=checkbox])");
    if (typing) return;
    if (event.key === "?") return help.showModal();
    if (form && stage && ["1", "2", "3"].includes(event.key)) return mark(Number(event.key));
    if (stage && ["ArrowLeft", "ArrowRight"].includes(event.key) && !event.target.closest("input, a, button, summary")) {
      cut(Number(slider.value) + (event.key === "ArrowLeft" ? -5 : 5));
      event.preventDefault();
      return;
    }
    const found = keys.find(([key, , act]) => act && key === event.key);
    if (found) found[2]();
  });
})();
