/** Images from a camera: a live view and a button that keeps what it shows as a PNG. */

import { html, useEffect, useRef, useState } from "./html.js";

/** Browsers offer cameras only to pages by HTTPS or of this machine. */
export const hasCamera = () => Boolean(navigator.mediaDevices?.getUserMedia);

/**
 * A live view. `taken(file)` gets each image, called `camera 1.png` and so on. The camera is on only while this is
 * shown, and nothing of it leaves the page. `label` is the text of the button.
 */
export function Camera({ taken, close, label = "Take an image" }) {
  const video = useRef();
  const count = useRef(0);
  const [state, setState] = useState("asking");
  useEffect(() => {
    let stream;
    let gone = false;
    navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, height: { ideal: 480 } } }).then(
      (found) => {
        if (gone) return stop(found);
        stream = found;
        video.current.srcObject = found;
        setState("live");
      },
      (error) => !gone && setState(error.name === "NotAllowedError" ? "refused" : "missing"),
    );
    return () => {
      gone = true;
      if (stream) stop(stream);
    };
  }, []);
  const take = async () => {
    const { videoWidth: width, videoHeight: height } = video.current;
    if (!width) return;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d").drawImage(video.current, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    count.current += 1;
    taken(new File([blob], `camera ${count.current}.png`, { type: "image/png" }));
  };
  return html`<div class="camera">
    <video ref=${video} autoplay muted playsinline aria-label="What the camera sees" hidden=${state !== "live"}></video>
    ${state !== "live" && html`<p role="status">${WORDS[state]}</p>`}
    <div class="choices">
      <button type="button" onClick=${take} disabled=${state !== "live"}>${label}</button>
      <button type="button" onClick=${close}>Close the camera</button>
    </div>
  </div>`;
}

const WORDS = {
  asking: "Your browser asks whether this page may use the camera …",
  refused: "The browser refused the camera. Allow it for this page in the address bar, and open the camera again.",
  missing: "No camera can be used. Connect one, close other programs that use it, and open the camera again.",
};

const stop = (stream) => stream.getTracks().forEach((track) => track.stop());
