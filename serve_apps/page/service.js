// The service's HTTP side as the page uses it: JSON calls, server-sent events, safetensors. The
// session cookie stands for the key, so no key is kept here.

/** An answer that is no success, or none at all; `code` is the service's stable one. */
export class ServiceError extends Error {
  constructor(code, { status = 0, requestId = "", retryAfterS = null } = {}) {
    super(code);
    this.code = code;
    this.status = status;
    this.requestId = requestId;
    this.retryAfterS = retryAfterS;
  }

  /** Whether asking again may help. */
  get mayPass() {
    const passing = [
      "overloaded",
      "model_not_ready",
      "upload_busy",
      "upload_stalled",
      "checksum_mismatch",
      "offset_conflict",
      "no_connection",
    ];
    return passing.includes(this.code);
  }
}

/** A response of the service; throws ServiceError. */
export async function call(method, path, { headers = {}, body, signal } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body,
      signal,
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError("no_connection");
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

async function errorOf(response) {
  const after = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  const found = { status: response.status, retryAfterS: Number.isFinite(after) ? after : null };
  try {
    const { error } = await response.json();
    return new ServiceError(error.code, { ...found, requestId: error.request_id });
  } catch {
    // a proxy's answer, or HEAD, which has no body
    const codes = {
      401: "unauthorized",
      404: "not_found",
      413: "payload_too_large",
      429: "overloaded",
      503: "model_not_ready",
    };
    return new ServiceError(codes[response.status] ?? "internal_error", found);
  }
}

/** The JSON that a call answers with. */
export async function callJson(method, path, content, signal) {
  const options =
    content === undefined
      ? {}
      : { headers: { "content-type": "application/json" }, body: JSON.stringify(content) };
  const response = await call(method, path, { ...options, signal });
  return response.status === 204 ? null : readBody(response, "json");
}

async function readBody(response, kind) {
  try {
    return await response[kind]();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError("no_connection");
  }
}

/** Wait; ends early with AbortError. */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        reject(new DOMException("aborted", "AbortError"));
      },
      { once: true },
    );
  });
}

/**
 * Do `work`, and again while its failure may pass.
 * @param onWait called with the ServiceError and the seconds until the next attempt
 */
export async function patiently(work, { signal, onWait, attempts = 6 }) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof ServiceError) || !error.mayPass || attempt >= attempts) throw error;
      const seconds = error.retryAfterS ?? Math.min(15, 2 ** (attempt - 1));
      onWait?.(error, seconds);
      await pause(seconds * 1000, signal);
    }
  }
}

/** Follow a job to its end; `onJob` is told of every change. */
export async function followJob(id, { signal, onJob, onWait }) {
  let last = null;
  let job = null;
  const read = async () => {
    const headers = last === null ? {} : { "last-event-id": last };
    const response = await call("GET", `/v1/jobs/${id}/events`, { headers, signal });
    if (response.status === 204) return callJson("GET", `/v1/jobs/${id}`, undefined, signal);
    for await (const event of eventsOf(response)) {
      last = event.id ?? last;
      job = JSON.parse(event.data);
      onJob(job);
    }
    if (!job || ["queued", "running"].includes(job.state)) throw new ServiceError("no_connection");
    return job;
  };
  return patiently(read, { signal, onWait, attempts: 20 });
}

/** The events of a text/event-stream. Not EventSource: it tells nothing of what went wrong. */
export async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    let piece;
    try {
      piece = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServiceError("no_connection");
    }
    if (piece.done) return;
    waiting += piece.value;
    const blocks = waiting.split("\n\n");
    waiting = blocks.pop();
    for (const block of blocks) {
      const event = parseEvent(block);
      if (event.data) yield event;
    }
  }
}

function parseEvent(block) {
  const event = {};
  for (const line of block.split("\n")) {
    const at = line.indexOf(":");
    if (at > 0) event[line.slice(0, at)] = line.slice(at + 1).trimStart();
  }
  return event;
}

/** Tensors and metadata of a safetensors file: float32 and booleans, which is what the service sends. */
export async function callTensors(path, signal) {
  const response = await call("GET", path, { signal });
  return parseTensors(await readBody(response, "arrayBuffer"));
}

export function parseTensors(buffer) {
  const headerBytes = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, headerBytes)));
  const { __metadata__: metadata = {}, ...entries } = header;
  const tensors = {};
  for (const [
    name,
    {
      dtype,
      shape,
      data_offsets: [start, stop],
    },
  ] of Object.entries(entries)) {
    const bytes = buffer.slice(8 + headerBytes + start, 8 + headerBytes + stop);
    if (dtype !== "F32" && dtype !== "BOOL") throw new Error(`tensors of ${dtype} are not read here`);
    tensors[name] = { shape, data: dtype === "F32" ? new Float32Array(bytes) : new Uint8Array(bytes) };
  }
  return { tensors, metadata };
}
