/** An error for the person at the page: one line that says what was expected, what came, and what to do. */
export class MoeError extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = 'MoeError';
  }
}
