// Requests to the service that this page came from.

const KEY = "lbam-key";

export class Refused extends Error {
  constructor(status, detail, after) {
    super(detail);
    this.status = status;
    this.after = after;
  }
}

export function setKey(key) {
  sessionStorage.setItem(KEY, key);
}

function authorization() {
  const key = sessionStorage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** What a request may hold, or null where the service does not say. */
export async function limits() {
  const answer = await fetch("/v1/limits", { headers: authorization() });
  return answer.ok ? answer.json() : null;
}

/**
 * Fill the hole of a picture. mask: a file, or null for what is transparent; options: the query; told(share): how much of it is
 * uploaded, 1 for all; signal: gives up. Resolves to { blob, notes, seconds }; rejects with Refused.
 */
export function inpaint(image, mask, options, told, signal) {
  const form = new FormData();
  form.append("image", image, "image");
  if (mask) form.append("mask", mask, "mask");
  const request = new XMLHttpRequest(); // fetch tells nothing of uploads
  return new Promise((resolve, reject) => {
    request.open("POST", `/v1/inpaint?${new URLSearchParams(options)}`);
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.responseType = "blob";
    request.upload.onprogress = (event) => event.lengthComputable && told(event.loaded / event.total);
    request.upload.onload = () => told(1);
    request.onerror = () => reject(new Refused(0, "The service does not answer. Is it still running?"));
    request.onabort = () => reject(new DOMException("given up", "AbortError"));
    request.onload = async () => {
      if (request.status !== 200) {
        reject(await refusal(request));
        return;
      }
      const notes = JSON.parse(request.getResponseHeader("LBAM-Notes") ?? "[]");
      resolve({ blob: request.response, notes });
    };
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

async function refusal(request) {
  const after = Number(request.getResponseHeader("Retry-After")) || null;
  try {
    const { detail } = JSON.parse(await request.response.text());
    return new Refused(request.status, detail, after);
  } catch {
    return new Refused(request.status, `The service answered ${request.status} ${request.statusText}.`, after);
  }
}
