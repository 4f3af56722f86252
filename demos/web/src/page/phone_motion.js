/** The phone's own motion sensor, in the units and axes of the smartwatch's recordings. */
import {MoeError} from '../moe.js';

const STANDARD_GRAVITY = 9.80665;
const RADIANS = Math.PI / 180;
/** No event in this time means that there is no sensor, or that the browser keeps it to itself. */
const PATIENCE_MS = 2500;

/**
 * Starts to listen, after asking where the system wants to be asked (iOS).
 *
 * @param {{units: {acceleration: 'g'|'m/s2', rotation: 'rad/s'|'deg/s'},
 *     onSample: (timeMs: number, values: number[]) => void, onSilence: (error: MoeError) => void}} options
 * @return {Promise<() => void>} Stops listening.
 */
export async function listenToPhone({units, onSample, onSilence}) {
  if (typeof DeviceMotionEvent === 'undefined') throw new MoeError('this browser has no motion sensor; replay a recording');
  if (!isSecureContext) throw new MoeError('the motion sensor needs https; open this page by an https address');
  if (typeof DeviceMotionEvent.requestPermission === 'function') {
    const granted = await DeviceMotionEvent.requestPermission().catch(() => 'denied');
    if (granted !== 'granted') throw new MoeError('the motion sensor was not allowed; allow it and try again');
  }
  let timer = setTimeout(() => {
    onSilence(new MoeError('no sample came from a motion sensor; this device may have none: replay a recording'));
  }, PATIENCE_MS);
  const listener = (event) => {
    const values = toWatchUnits(event, units);
    if (values === null) return;
    clearTimeout(timer);
    timer = null;
    onSample(event.timeStamp, values);
  };
  addEventListener('devicemotion', listener);
  return () => {
    clearTimeout(timer);
    removeEventListener('devicemotion', listener);
  };
}

/**
 * Converts one event.
 *
 * Events hold m/s² with gravity, and degrees a second about z (alpha), x (beta), y (gamma). By the specification a
 * phone flat on its back measures +9.8 on z; iOS reports the opposite sign, which is also that of a watch's Core Motion.
 *
 * @param {{accelerationIncludingGravity: object, rotationRate: object}} event
 * @param {{acceleration: 'g'|'m/s2', rotation: 'rad/s'|'deg/s', gravitySign: 1|-1}} units Of the model's training data.
 * @param {boolean} [isApple]
 * @return {number[]|null} ax, ay, az, wx, wy, wz; null where a device sends an event without values.
 */
export function toWatchUnits(event, units, isApple = /iPhone|iPad|Macintosh/.test(navigator.userAgent)) {
  const {accelerationIncludingGravity: acceleration, rotationRate: rotation} = event;
  const raw = [acceleration?.x, acceleration?.y, acceleration?.z, rotation?.beta, rotation?.gamma, rotation?.alpha];
  if (raw.some((value) => typeof value !== 'number')) return null;
  const isFlipped = isApple === (units.gravitySign > 0);
  const force = (isFlipped ? -1 : 1) / (units.acceleration === 'g' ? STANDARD_GRAVITY : 1);
  const turn = units.rotation === 'rad/s' ? RADIANS : 1;
  return raw.map((value, index) => value * (index < 3 ? force : turn));
}
