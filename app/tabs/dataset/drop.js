// The place where pictures are dropped. Files go one by one to a route that keeps their folders; Python is told at last.
const zone = element.querySelector(".drop"), sending = element.querySelector(".sending");
const bar = sending.querySelector("progress"), words = sending.querySelector("span");
const AT_ONCE = 3, PACK_FILES = 200, PACK_BYTES = 2 ** 23;  // small files share a request
let going = null;  // what is being sent: { requests, stopped }

const mebi = bytes => (bytes / 2 ** 20).toFixed(bytes < 2 ** 24 ? 1 : 0) + " MiB";

function send(method, address, body, going, progress) {
    return new Promise((done, failed) => {
        const request = new XMLHttpRequest();
        request.open(method, address);
        request.upload.onprogress = event => progress?.(event.loaded);
        request.onload = () => {
            going.requests.delete(request);
            const answer = JSON.parse(request.responseText || "{}");
            request.status < 300 ? done(answer) : failed(new Error(answer.detail || request.statusText));
        };
        request.onerror = () => failed(new Error("The connection was lost."));
        request.onabort = () => failed(new Error("Cancelled: nothing was added."));
        going.requests.add(request);
        if (typeof body === "string") request.setRequestHeader("Content-Type", "application/json");
        request.send(body);
    });
}

async function upload(found) {  // [[name with folders, File]]
    if (going || !found.length) return;
    going = { requests: new Set(), stopped: false };
    sending.hidden = false;
    let token = null;
    try {
        words.textContent = `${found.length} files`;
        const plan = JSON.stringify({ names: found.map(([name]) => name), sizes: found.map(([, file]) => file.size) });
        const begun = await send("POST", "uploads", plan, going);
        token = begun.token;
        await sendAll(token, begun.wanted, found, going);
        words.textContent = "reading the pictures";
        trigger("sent", { token });
        sending.hidden = true;
    } catch (error) {
        going.stopped = true;
        going.requests.forEach(request => request.abort());
        words.textContent = error.message;
        if (token) fetch(`uploads/${token}`, { method: "DELETE" });
    }
    going = null;
}

function packs(wanted, found) {  // of numbers without a gap
    const out = [];
    let bytes = 0;
    for (const number of wanted) {
        const pack = out.at(-1), size = found[number][1].size;
        if (pack && pack.at(-1) + 1 === number && pack.length < PACK_FILES && bytes + size <= PACK_BYTES) {
            pack.push(number); bytes += size;
        } else { out.push([number]); bytes = size; }
    }
    return out;
}

async function sendAll(token, wanted, found, going) {
    const total = wanted.reduce((sum, number) => sum + found[number][1].size, 0), sent = new Map();
    const waiting = packs(wanted, found);
    let done = 0;
    const show = () => {
        const bytes = [...sent.values()].reduce((sum, one) => sum + one, done);
        bar.max = total || 1; bar.value = bytes;
        words.textContent = `${mebi(bytes)} of ${mebi(total)} sent`;
    };
    const one = async () => {
        while (waiting.length && !going.stopped) {
            const pack = waiting.shift(), first = pack[0], body = new Blob(pack.map(number => found[number][1]));
            const progress = loaded => { sent.set(first, loaded); show(); };
            await send("PUT", `uploads/${token}/${first}/${pack.length}`, body, going, progress);
            sent.delete(first); done += body.size; show();
        }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, one));
}

async function walk(entry, out) {  // what was dropped: a file, or a folder with all below it
    if (entry.isFile) return out.push([entry.fullPath.slice(1), await new Promise((done, no) => entry.file(done, no))]);
    const reader = entry.createReader();
    for (;;) {  // it hands out a hundred at a time
        const some = await new Promise((done, no) => reader.readEntries(done, no));
        if (!some.length) return;
        for (const inner of some) await walk(inner, out);
    }
}

element.addEventListener("change", event => {
    const input = event.target;
    upload(Array.from(input.files, file => [file.webkitRelativePath || file.name, file]));
    input.value = "";
});
element.addEventListener("dragover", event => { event.preventDefault(); zone.classList.add("over"); });
element.addEventListener("dragleave", () => zone.classList.remove("over"));
element.addEventListener("drop", async event => {
    event.preventDefault();
    zone.classList.remove("over");
    const entries = Array.from(event.dataTransfer.items, item => item.webkitGetAsEntry()).filter(Boolean), out = [];
    for (const entry of entries) await walk(entry, out);
    upload(out);
});
sending.querySelector("button").addEventListener("click", () => {
    if (going) going.requests.forEach(request => request.abort());
    else sending.hidden = true;
});
