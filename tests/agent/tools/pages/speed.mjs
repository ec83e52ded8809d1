export const speed = 5;
