/** Files beside the page. */
import {MoeError} from '../moe.js';

/** @return {Promise<Uint8Array>} */
export async function fetchBytes(path) {
  let response;
  try {
    response = await fetch(path);
  } catch (error) {
    throw new MoeError(`can't fetch ${path}; go online and reload the page`, {cause: error});
  }
  if (!response.ok) throw new MoeError(`can't fetch ${path}: HTTP ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** Offers `text` as a download. */
export function offerDownload(text, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'text/csv'}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
