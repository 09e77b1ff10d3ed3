// Light or dark, before anything is drawn: as chosen here, else as the system says.
// The only script that is no module, so that it runs before the first paint.
(() => {
  const KEY = "dtask-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");

  function chosen() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage is forbidden here: the system decides
    }
  }

  function apply() {
    const theme = chosen() ?? (system.matches ? "dark" : "light");
    if (document.documentElement.dataset.theme === theme) return;
    document.documentElement.dataset.theme = theme;
    dispatchEvent(new CustomEvent("themechange", { detail: theme }));
  }

  window.dtaskTheme = {
    toggle() {
      const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        document.documentElement.dataset.theme = theme; // for this page alone
        dispatchEvent(new CustomEvent("themechange", { detail: theme }));
      }
      apply();
    },
  };
  system.addEventListener("change", apply);
  addEventListener("storage", apply); // chosen in another tab
  apply();
})();
