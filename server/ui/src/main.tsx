// Mounts the page that the address names below a header with navigation and theme.

import { render, type ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { component, prefix, showsBucket } from "./api";
import { AlertsPage } from "./pages/alerts";
import { BlocksPage } from "./pages/blocks";
import { FlagsPage, StatusPage } from "./pages/status";
import { QueryPage } from "./pages/query";
import { RulesPage } from "./pages/rules";
import { StoresPage } from "./pages/stores";
import { TargetsPage } from "./pages/targets";
import { load, save } from "./saved";
import { leftPanels } from "./state";
import { setTimeZone, timeZone } from "./time";

const QUERY = "/graph";
const ALL = [
  { path: QUERY, title: "Query", page: QueryPage },
  { path: "/alerts", title: "Alerts", page: AlertsPage },
  { path: "/rules", title: "Rules", page: RulesPage },
  { path: "/targets", title: "Targets", page: TargetsPage },
  { path: "/stores", title: "Stores", page: StoresPage },
  { path: "/blocks", title: "Blocks", page: BlocksPage },
  { path: "/status", title: "Status", page: StatusPage },
  { path: "/flags", title: "Flags", page: FlagsPage },
];
const BUCKET_ONLY = ["/blocks", "/status", "/flags"];
const RECEIVER_ONLY = ["/status", "/flags"];
const QUERIER_ONLY = (path: string) => path !== "/blocks";
const PAGES = ALL.filter(({ path }) => {
  if (showsBucket) return BUCKET_ONLY.includes(path);
  if (component === "receive") return RECEIVER_ONLY.includes(path);
  return component === "query" ? QUERIER_ONLY(path) : true;
});

type Theme = "light" | "dark";

function preferredTheme(): Theme {
  const saved = load("uru-theme");
  if (saved === "light" || saved === "dark") return saved;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

function App() {
  const [path, setPath] = useState(location.pathname.slice(prefix.length));
  const [theme, setTheme] = useState(preferredTheme);
  const [zone, setZone] = useState(timeZone);
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
  }, [theme]);
  useEffect(() => {
    const moved = () => setPath(location.pathname.slice(prefix.length));
    addEventListener("popstate", moved);
    return () => removeEventListener("popstate", moved);
  }, []);
  const current = PAGES.find((page) => path.startsWith(page.path)) ?? PAGES[0]!;
  useEffect(() => {
    document.title = `${current.title} · uru`;
  }, [current]);
  const go = (event: MouseEvent, to: string) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    if (to === current.path) return;
    // The way back leads to what is typed too.
    if (current.path === QUERY) history.replaceState(null, "", prefix + QUERY + leftPanels());
    history.pushState(null, "", prefix + to + (to === QUERY ? leftPanels() : ""));
    setPath(to);
  };
  const skip = (event: MouseEvent) => {
    event.preventDefault();
    document.getElementById("main")?.focus();
  };
  const toggleTheme = () => {
    const other = theme === "dark" ? "light" : "dark";
    save("uru-theme", other);
    setTheme(other);
  };
  const toggleZone = () => {
    const other = zone === "utc" ? "local" : "utc";
    setTimeZone(other);
    setZone(other);
  };
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        Skip to content
      </a>
      <header>
        <a class="brand" href={`${prefix}/`} onClick={(event) => go(event, PAGES[0]!.path)}>
          uru
        </a>
        <nav aria-label="Pages">
          {PAGES.map((page) => (
            <a
              key={page.path}
              href={prefix + page.path}
              aria-current={page === current ? "page" : undefined}
              onClick={(event) => go(event, page.path)}
            >
              {page.title}
            </a>
          ))}
        </nav>
        <button class="quiet" onClick={toggleZone} aria-label={`Switch to ${zone === "utc" ? "local time" : "UTC"}`}>
          {zone === "utc" ? "Local time" : "UTC"}
        </button>
        <button class="quiet" onClick={toggleTheme} aria-label={`Switch to ${theme === "dark" ? "light" : "dark"} theme`}>
          {theme === "dark" ? "Light" : "Dark"}
        </button>
      </header>
      <main id="main" tabIndex={-1}>
        <Current page={current.page} key={current.path} />
      </main>
    </>
  );
}

/** A page. As a child of `main` itself it would keep what it held at first, such as answers of panels that were removed. */
function Current({ page: Page }: { page: ComponentType }) {
  return <Page />;
}

// Before anything is drawn in the other one.
document.documentElement.dataset.theme = preferredTheme();
render(<App />, document.getElementById("root")!);
