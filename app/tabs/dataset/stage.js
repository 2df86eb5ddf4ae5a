// The open picture: a click or a drag moves the focus point; Python is told where it was let go.
const at = event => {
    const box = element.querySelector(".picture").getBoundingClientRect();
    const inside = (value, from, length) => Math.min(1, Math.max(0, (value - from) / length));
    return { x: inside(event.clientX, box.left, box.width), y: inside(event.clientY, box.top, box.height) };
};
let dragging = false;

const show = ({ x, y }) => {
    const drawing = element.querySelector("svg");
    if (!drawing) return;
    let point = drawing.querySelector(".focus");
    if (!point) {
        point = document.createElementNS("http://www.w3.org/2000/svg", "circle");
        point.setAttribute("class", "focus");
        drawing.append(point);
    }
    const size = drawing.viewBox.baseVal;
    point.setAttribute("cx", x * size.width);
    point.setAttribute("cy", y * size.height);
    point.setAttribute("r", point.getAttribute("r") || Math.max(size.width, size.height) / 40);
};

element.addEventListener("pointerdown", event => {
    if (event.button || !event.target.closest(".picture")) return;
    dragging = true;
    element.setPointerCapture(event.pointerId);
    show(at(event));
});
element.addEventListener("pointermove", event => dragging && show(at(event)));
element.addEventListener("pointercancel", () => { dragging = false; });
element.addEventListener("pointerup", event => {
    if (!dragging) return;
    dragging = false;
    trigger("aim", at(event));
});
