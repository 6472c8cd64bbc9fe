/** `at`, or one less where it stands between the two halves of a character. */
export function characterStart(text: string, at: number): number {
  const isHalf = (text.charCodeAt(at) & 0xfc00) === 0xdc00 && (text.charCodeAt(at - 1) & 0xfc00) === 0xd800;
  return isHalf ? at - 1 : at;
}

/** The first `max` UTF-16 units of a text, one less where the last were half a character. */
export function cutText(text: string, max: number): string {
  return text.length <= max ? text : text.slice(0, characterStart(text, max));
}
