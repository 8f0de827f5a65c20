// What happens when the page has loaded. Where something is missing, the pictures stay as they are.

function followContents() {
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      const link = links.get(entry.target.id);
      link?.setAttribute("aria-current", "true");
      if (link) link.parentElement.scrollTo({ left: link.offsetLeft - 24 });
    }
  }, { rootMargin: "-20% 0px -75% 0px" });
  for (const section of document.querySelectorAll("main > section")) seen.observe(section);
}

async function wake() {
  followContents();
  saveFigures();
  const opened = [];
  for (const element of document.querySelectorAll(".explorer")) {
    const explorer = await Explorer.open(element);
    element.hidden = false;
    element.closest("section").classList.add("live");
    opened.push(explorer.openAll());
  }
  for (const element of document.querySelectorAll(".searchable")) {
    await RowTable.open(element);
    element.hidden = false;
  }
  await Promise.all(opened);
  document.documentElement.dataset.live = "true";
}

wake().catch((error) => console.warn("The pictures of this page stay still:", error));
