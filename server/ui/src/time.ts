// Times and durations as people type and read them: times in UTC, or in the time of where they are.

import { load, save } from "./saved";

export type Zone = "utc" | "local";

const SAVED = "uru-zone";
let zone: Zone = load(SAVED) === "local" ? "local" : "utc";

/** In which times are shown and typed. */
export const timeZone = (): Zone => zone;

/** Its name beside a time. */
export const zoneName = (): string => (zone === "utc" ? "UTC" : "local");

export function setTimeZone(next: Zone) {
  zone = next;
  save(SAVED, next);
}

const UNITS: [string, number][] = [
  ["y", 365 * 86400],
  ["w", 7 * 86400],
  ["d", 86400],
  ["h", 3600],
  ["m", 60],
  ["s", 1],
  ["ms", 0.001],
];

/** Seconds of a Prometheus duration such as "1h30m" or of a plain number; null when it is neither. */
export function parseDuration(text: string): number | null {
  const trimmed = text.trim();
  if (/^\d+(\.\d+)?$/.test(trimmed)) return Number(trimmed);
  if (!/^(\d+(ms|[ywdhms]))+$/.test(trimmed)) return null;
  let seconds = 0;
  for (const [, amount, unit] of trimmed.matchAll(/(\d+)(ms|[ywdhms])/g)) {
    seconds += Number(amount) * (UNITS.find(([name]) => name === unit)?.[1] ?? 0);
  }
  return seconds;
}

/** Seconds as a Prometheus duration. */
export function formatDuration(seconds: number): string {
  if (seconds < 1) return `${Math.round(seconds * 1000)}ms`;
  let rest = Math.round(seconds);
  let text = "";
  for (const [unit, size] of UNITS) {
    if (size >= 1 && unit !== "w" && rest >= size) {
      text += Math.floor(rest / size) + unit;
      rest %= size;
    }
  }
  return text || "0s";
}

/** A step as it is written: a part of a second in milliseconds. */
export function formatStep(seconds: number): string {
  return Number.isInteger(seconds) ? formatDuration(seconds) : `${Math.round(seconds * 1000)}ms`;
}

/** Unix seconds as "2026-01-31T12:00:00.000" in the zone that is shown. */
export function isoTime(seconds: number): string {
  const date = new Date(Math.round(seconds * 1000));
  const shift = zone === "utc" ? 0 : date.getTimezoneOffset() * 60_000;
  return new Date(date.getTime() - shift).toISOString().slice(0, 23);
}

/** An ISO time as "2026-01-31 12:00:00", with milliseconds where there are some. */
const spaced = (iso: string): string => iso.replace("T", " ").replace(/\.000$/, "");

/** Unix seconds as "2026-01-31 12:00:00" in the zone that is shown. */
export function formatTime(seconds: number): string {
  return isoTime(seconds).slice(0, 19).replace("T", " ");
}

/** The same with milliseconds where there are some. */
export function formatSampleTime(seconds: number): string {
  return spaced(isoTime(seconds));
}

/** As `formatSampleTime` in UTC, as addresses have it. */
export function formatUtc(seconds: number): string {
  return spaced(new Date(Math.round(seconds * 1000)).toISOString().slice(0, 23));
}

/** Unix milliseconds for a table; the ends of time in words. */
export function formatTimeMs(ms: number): string {
  if (ms <= -62135596800000 || ms <= -9e15) return "the beginning";
  if (ms >= 9e15) return "now and later";
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? String(ms) : formatTime(ms / 1000);
}

/** The start and the end of what an endpoint holds, for a table; one that holds nothing yet starts after it ends. */
export function formatRangeMs(minTime: number, maxTime: number): [string, string] {
  return minTime > maxTime ? ["nothing yet", ""] : [formatTimeMs(minTime), formatTimeMs(maxTime)];
}

/** The end of the year 9999 in Unix milliseconds: a number above it is in another unit than seconds. */
const LAST_MS = Date.UTC(10000, 0) - 1;

/** Unix seconds of "2026-01-31 12:00[:00]" in the zone that is shown, or in the one that it names as "Z" or "+01:00";
 * Unix seconds are taken as they are. Null when it is none of these. */
export const parseTime = (text: string): number | null => parse(text, zone === "utc" ? "Z" : "");

/** The same in UTC. */
export const parseUtc = (text: string): number | null => parse(text, "Z");

function parse(text: string, suffix: string): number | null {
  const trimmed = text.trim();
  const isUnix = /^\d+(\.\d+)?$/.test(trimmed);
  const match = /^(\d{4}-\d{2}-\d{2})[ T](\d{2}:\d{2})(:\d{2}(?:\.\d+)?)?(Z|[+-]\d{2}:\d{2})?$/.exec(trimmed);
  if (!match && !isUnix) return null;
  const iso = match && `${match[1]}T${match[2]}${match[3] ?? ":00"}${match[4] ?? suffix}`;
  const ms = new Date(iso ?? Math.round(Number(trimmed) * 1000)).getTime();
  return Number.isNaN(ms) || ms > LAST_MS ? null : ms / 1000;
}

/** How long ago an RFC 3339 time was. */
export function ago(time: string): string {
  const seconds = (Date.now() - Date.parse(time)) / 1000;
  if (!Number.isFinite(seconds) || seconds > 1e9) return "never";
  return seconds < 1 ? "just now" : `${formatDuration(seconds)} ago`;
}
