// The looks: colours with enough contrast for everybody, in light and in dark.
import { type CSSVariablesResolver, createTheme, defaultVariantColorsResolver, type MantineColorsTuple } from "@mantine/core";

const farm: MantineColorsTuple = [
  "#e9f7f1", "#d2ecdf", "#a6dac2", "#79c7a5", "#54b78c", "#36a577", "#1d8c62", "#127c55", "#0b6e4f", "#075a40",
];
const dark: MantineColorsTuple = [
  "#e4e9e7", "#c9d0cd", "#a8b3af", "#7f8b87", "#4b5753", "#36413d", "#2a3430", "#1a211e", "#141a18", "#0e1312",
];

const GREY = "light-dark(var(--mantine-color-gray-2), var(--mantine-color-dark-5))";

/** Of colours whose darkest is too pale on their lightest. */
const DARKER: Readonly<Record<string, string>> = { orange: "#8d2f0a", lime: "#3c6008" };

/** What buttons without words say to those who do not see them. */
interface Said {
  readonly close: string;
  readonly showPassword: string;
}

export const themeWith = ({ close, showPassword }: Said) => createTheme({
  colors: { farm, dark },
  primaryColor: "farm",
  primaryShade: 8,
  defaultRadius: "md",
  cursorType: "pointer",
  fontFamily: 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", Arial, sans-serif',
  headings: { fontWeight: "650", sizes: { h1: { fontSize: "1.6rem" }, h2: { fontSize: "1.15rem" } } },
  // The default text of light and subtle variants is too pale to be read by everybody.
  variantColorResolver: (input) => {
    const found = defaultVariantColorsResolver(input);
    const color = input.color ?? input.theme.primaryColor;
    if (!(color in input.theme.colors)) return found;
    const text = `light-dark(${DARKER[color] ?? `var(--mantine-color-${color}-9)`}, var(--mantine-color-${color}-2))`;
    return input.variant === "light" || input.variant === "subtle" || input.variant === "outline"
      ? { ...found, color: text, ...(color === "gray" && input.variant === "light" ? { background: GREY } : {}) }
      : found;
  },
  components: {
    Menu: { defaultProps: { withInitialFocusPlaceholder: false } }, // no child of a menu may be there for the focus alone
    Loader: { defaultProps: { role: "status" } },
    Badge: { defaultProps: { variant: "light", radius: "sm", tt: "none", fw: 600, flex: "none" } },
    Notification: { defaultProps: { closeButtonProps: { "aria-label": close } } },
    Anchor: { defaultProps: { c: "light-dark(var(--mantine-color-farm-9), var(--mantine-color-farm-3))" } },
    PasswordInput: { defaultProps: { visibilityToggleButtonProps: { "aria-label": showPassword } } },
    Modal: { styles: { title: { fontWeight: 650 } }, defaultProps: { centered: true, closeButtonProps: { "aria-label": close }, attributes: { header: { role: "presentation" } } } }, // the page has a header
  },
});

export const cssVariables: CSSVariablesResolver = () => ({
  variables: {},
  light: {
    "--mantine-color-body": "#fbfcfb",
    "--mantine-color-dimmed": "#4f5a56",
    "--mantine-color-placeholder": "#65706c",
    "--mantine-color-error": "#b42318",
  },
  dark: {
    "--mantine-color-dimmed": "#a8b3af",
    "--mantine-color-placeholder": "#93a09b",
    "--mantine-color-error": "#ff9c8f",
  },
});
