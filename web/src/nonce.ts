/** The page's nonce for style elements; the server makes a fresh one for each page. */
export const nonce = document.querySelector<HTMLMetaElement>('meta[name="csp-nonce"]')?.content ?? "";
