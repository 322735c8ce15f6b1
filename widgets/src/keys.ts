// Keys pressed in a panel are for the panel.

/**
 * Keep them from the notebook around it, to which "a" in a list of choices means a new cell. With
 * Ctrl, Alt or Meta they stay its own: Ctrl+S saves.
 */
export function keepKeys(root: HTMLElement): void {
  root.addEventListener("keydown", (event) => {
    if (!event.ctrlKey && !event.altKey && !event.metaKey) event.stopPropagation();
  });
}
