// @ts-check
/** @import { Report, Token } from "./stream-chat.js" */

/**
 * The whole answer at once, as it comes without streaming, told as `streamChat` tells its own: for comparisons.
 * @param {{ url: string, message: string, body?: object, signal?: AbortSignal }} question
 * @returns {AsyncGenerator<Token, void, void> & { report: Report }}
 */
export function wholeAnswer({ url, message, body, signal }) {
  /** @type {Report} */
  const report = { attempts: [], requests: 0, bytes: 0, restarts: 0, checked: "" };
  return Object.assign(read(), { report });

  async function* read() {
    const headers = { "Content-Type": "application/json" };
    report.requests++;
    const response = await fetch(url, { method: "POST", headers, body: JSON.stringify({ ...body, message }), signal });
    const text = await response.text();
    report.bytes += text.length;
    if (!response.ok) throw new Error(`status ${response.status}`);
    yield* JSON.parse(text).tokens;
  }
}
