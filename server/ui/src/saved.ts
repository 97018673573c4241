// What the browser keeps for the pages. Where it may keep nothing, they work without.

export function load(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

export function save(name: string, text: string) {
  try {
    localStorage.setItem(name, text);
  } catch {
    // Storage is blocked or full.
  }
}

export function forget(name: string) {
  try {
    localStorage.removeItem(name);
  } catch {
    // Storage is blocked.
  }
}
