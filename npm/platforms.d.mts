interface Platform {
  os: string[];
  cpu: string[];
  libc?: string[];
  target: string;
}
export const PLATFORMS: Record<string, Platform>;
/** Oldest glibc that released Linux addons are linked for. */
export const GLIBC_FLOOR: string;
