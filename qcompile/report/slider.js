document.documentElement.classList.add("scripted");
for (const stage of document.querySelectorAll(".compare")) {
  const range = stage.querySelector("input");
  const move = () => stage.style.setProperty("--at", range.value + "%");
  range.addEventListener("input", move);
  move();
}
