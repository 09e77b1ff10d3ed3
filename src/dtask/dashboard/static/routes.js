// The pages, each in a module that is loaded when it is first opened.
// A page is a component that is given `params` (of the path) and `query` (URLSearchParams).

export const ROUTES = [
  {
    path: "/", name: "Overview", icon: "overview",
    load: async () => (await import("./overview.js")).Overview,
  },
  {
    path: "/workers", name: "Workers", icon: "workers",
    load: async () => (await import("./workers.js")).Workers,
  },
  { path: "/workers/:id", under: "/workers", load: async () => (await import("./worker.js")).Worker },
  { path: "/jobs", name: "Jobs", icon: "jobs", load: async () => (await import("./jobs.js")).Jobs },
  { path: "/jobs/:id", under: "/jobs", load: async () => (await import("./job.js")).Job },
  {
    path: "/failed", name: "Failed", icon: "failed",
    load: async () => (await import("./failed.js")).Failed,
  },
  {
    path: "/submit", name: "Submit", icon: "submit",
    load: async () => (await import("./submit.js")).Submit,
  },
];
