/** What the server accepts, in units that people read. */

import { html } from "../../lib/html.js";
import { Facts, Part } from "../../lib/controls.js";
import { number } from "../../lib/parts.js";
import { useSession } from "../../lib/session.js";
import { bytes, duration, share } from "../../lib/words.js";

const large = new Intl.NumberFormat("en", { notation: "compact", compactDisplay: "long", maximumSignificantDigits: 3 });
const pixels = (count) => `${large.format(count)} pixels`;
const times = (count) => `${number(count)} times`;
const milliseconds = (count) => `${number(count)} ms`;
const names = (list) => list.join(", ");

const GROUPS = {
  "An image": [
    ["image_formats", "Formats", names],
    ["max_image_bytes", "Largest file", bytes],
    ["max_pixels", "Largest image", pixels],
    ["volume_formats", "Formats of volumes", names],
    ["max_volume_bytes", "Largest volume", bytes],
    ["max_voxels", "Largest volume, unpacked", (count) => `${large.format(count)} voxels`],
  ],
  "A request": [
    ["max_files", "Images", number],
    ["max_adapters_per_request", "Adapters", number],
    ["max_request_bytes", "Size", bytes],
    ["max_request_pixels", "Pixels, times the adapters", pixels],
    ["max_json_bytes", "JSON", bytes],
    ["request_timeout_s", "An answer takes at most", duration],
  ],
  "The queue": [
    ["max_queue", "Images that wait", number],
    ["max_batch", "Images computed together", number],
    ["batch_window_ms", "Waits for more of them", milliseconds],
    ["max_held_bytes", "Memory for requests", bytes],
    ["quarantine_after", "Failures in a row before an adapter is set aside", number],
    ["integrity_age_s", "A check of the network is given again for", duration],
  ],
  "A connection": [
    ["max_connections", "Connections at a time", number],
    ["head_timeout_s", "Waits for the head of a request", duration],
    ["body_timeout_s", "Waits for more of its body", duration],
    ["write_timeout_s", "Waits for the client to read", duration],
  ],
  "An adapter": [
    ["max_adapter_bytes", "Largest file", bytes],
    ["max_adapter_header_bytes", "Largest header", bytes],
    ["max_tensors", "Tensors", number],
    ["max_rank", "Rank", number],
    ["max_classes", "Labels", number],
    ["max_delta_ratio", "A change is at most", (ratio) => `${times(ratio)} as large as the weight`],
  ],
  "A dataset": [
    ["max_dataset_bytes", "Largest zip", bytes],
    ["max_dataset_files", "Files", number],
    ["max_dataset_classes", "Labels", number],
    ["max_unreadable_fraction", "Unreadable images", (part) => `at most ${share(part)}`],
    ["max_upload_chunk_bytes", "A piece of an upload", bytes],
  ],
  "Training": [
    ["max_queued_jobs", "Jobs that wait", number],
    ["max_job_pixels", "Work of a job", (count) => `${large.format(count)} pixels over all epochs`],
    ["max_job_file_bytes", "Largest file of a job", bytes],
  ],
};
const KNOWN = new Set([...Object.values(GROUPS).flat().map(([key]) => key), "engine"]);

export default function Limits() {
  const { limits } = useSession();
  const others = Object.entries(limits).filter(([key, value]) => !KNOWN.has(key) && typeof value !== "object");
  return html`<p class="quiet">The person who runs the server sets these. A request beyond one gets a message that says so.</p>
    <div class="columns">
      ${Object.entries(GROUPS).map(([title, rows]) => html`<${Part} key=${title} title=${title}>
        <${Facts} rows=${rows.filter(([key]) => limits[key] !== undefined && limits[key] !== null).map(([key, name, words]) => [name, words(limits[key])])} />
      <//>`)}
      ${others.length > 0 && html`<${Part} title="Others"><${Facts} rows=${others.map(([key, value]) => [key.replaceAll("_", " "), String(value)])} /><//>`}
    </div>`;
}
