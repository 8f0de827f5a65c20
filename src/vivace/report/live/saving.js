// Pictures as files: SVG with the page's colours written out, or PNG at twice its size.

const INKS = ["--ink", "--soft", "--line", "--card", "--paper", "--accent"];

function standalone(svg) {
  const copy = svg.cloneNode(true);
  const [, , width, height] = (svg.getAttribute("viewBox") || "0 0 360 260").split(/[ ,]+/).map(Number);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.setAttribute("font-family", "sans-serif");
  let text = new XMLSerializer().serializeToString(copy);
  for (const name of INKS) text = text.replaceAll(`var(${name})`, ink(name));
  return { text, width, height };
}

function rastered({ text, width, height }, scale = 3) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => {
      const canvas = make("canvas", { width: width * scale, height: height * scale });
      const context = canvas.getContext("2d");
      context.fillStyle = ink("--card");
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(resolve, "image/png");
    };
    image.onerror = reject;
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  });
}

function saveButtons(name, svg) {
  const button = (kind, action) => make("button", { type: "button", class: "quiet", "aria-label": `Save ${name} as ${kind}`, onclick: action }, kind);
  return make("p", { class: "saving" }, "Save as ", button("SVG", () => save(`${fileName(name)}.svg`, "image/svg+xml", svg().text)), " ",
    button("PNG", async () => save(`${fileName(name)}.png`, "image/png", await rastered(svg()))));
}

function saveFigures() {
  for (const figure of document.querySelectorAll("figure:not(.map)")) {
    const svg = figure.querySelector(".drawing svg");
    if (svg) figure.append(saveButtons(figure.querySelector("h3").textContent, () => standalone(svg)));
  }
}
