/** Labels as people read them: the title that the adapter's file gives a label, or the label itself. */

export const titleOf = (adapter, label) => adapter?.titles?.[label] ?? label;
