/**
 * The HTTP side: tokens for a conversation, the list of conversations, one of them, its replay.
 *
 * The API key and the tokens live in this object alone: they are in no storage and in no address.
 */

const TIMEOUT_MS = 10_000;
/** A conversation of many hours is shown from its beginning. */
const MOST_PAGES = 20;

/** The server answered, and said no. `code` is stable, `message` says what to do. */
export class Refused extends Error {
  constructor(status, code, message, retryAfterS) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfterS = retryAfterS;
  }

  /** Somebody has to prove who they are. */
  get wantsKey() {
    return this.status === 401 || this.status === 403;
  }
}

/** No answer came. */
export class Unreachable extends Error {}

export class Access {
  #key = "";
  #tokens = new Map();

  set key(key) {
    this.#key = key.trim();
  }

  get hasKey() {
    return this.#key !== "";
  }

  /** A token for a conversation, new or resumed. On the server's own machine no key is needed. */
  async grant(sessionId) {
    const body = sessionId ? { session_id: sessionId } : {};
    const grant = await this.#ask("POST", "sessions", { body });
    this.#tokens.set(grant.session_id, grant.token);
    return grant;
  }

  /** Whether new conversations are taken; throws what `/ready` says otherwise. */
  async ready() {
    return this.#ask("GET", "ready");
  }

  async sessions(limit) {
    return this.#ask("GET", `sessions?limit=${limit}`);
  }

  /** A conversation with all its turns, at most `MOST_PAGES` of the server's pages. */
  async session(id) {
    return this.#paged(id, "?limit=1000&after=", "turns");
  }

  /** One turn of it, undefined if the journal does not have it yet. */
  async turn(id, number) {
    const path = `sessions/${encodeURIComponent(id)}?after=${number - 1}&limit=1`;
    const { turns } = await this.#ask("GET", path, { session: id });
    return turns.find(({ turn }) => turn === number);
  }

  /** Its entries in time. */
  async timeline(id) {
    return this.#paged(id, "/timeline?limit=5000&after=", "entries");
  }

  async replay(id) {
    return this.#ask("POST", `sessions/${encodeURIComponent(id)}/replay`, { session: id, timeoutMs: 120_000 });
  }

  async #paged(id, query, what) {
    let whole = null;
    let after = 0;
    for (let page = 0; page < MOST_PAGES && after !== null; page += 1) {
      const answer = await this.#ask("GET", `sessions/${encodeURIComponent(id)}${query}${after}`, { session: id });
      whole = whole === null ? answer : { ...whole, [what]: [...whole[what], ...answer[what]] };
      after = answer.next;
    }
    return whole;
  }

  async #ask(method, path, { body, session, timeoutMs = TIMEOUT_MS } = {}) {
    const headers = {};
    const secret = this.#key || this.#tokens.get(session);
    if (secret) headers.Authorization = `Bearer ${secret}`;
    if (body) headers["Content-Type"] = "application/json";
    let response;
    let answer = null;
    try {
      response = await fetch(new URL(path, document.baseURI), {
        method,
        headers,
        body: body && JSON.stringify(body),
        cache: "no-store",
        credentials: "omit",
        signal: AbortSignal.timeout(timeoutMs),
      });
      answer = await response.json().catch(() => null);
    } catch (error) {
      throw new Unreachable(String(error));
    }
    if (response.ok && answer !== null) return answer;
    const told = answer?.error ?? {};
    const retry = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
    throw new Refused(
      response.status,
      told.code ?? `http.${response.status}`,
      told.message ?? `The server answered with status ${response.status}.`,
      Number.isFinite(retry) ? retry : null,
    );
  }
}
