# What package.json asks for, by the package manager whose lock file is there. In
# $all the whole tree is built and is the result; else node_modules alone is.
export NPM_CONFIG_CACHE="$HOME/npm" NPM_CONFIG_AUDIT=false NPM_CONFIG_FUND=false NPM_CONFIG_UPDATE_NOTIFIER=false
production=yes
[ -z "$all" ] || ! npm pkg get scripts.gcp-build | grep -q '"' || production=

if [ -f package-lock.json ] || [ -f npm-shrinkwrap.json ]; then
  need npm
  npm ci ${production:+--omit=dev}
elif [ -f pnpm-lock.yaml ]; then
  need pnpm
  pnpm install --frozen-lockfile ${production:+--prod}
elif [ -f yarn.lock ]; then
  need yarn
  yarn install --frozen-lockfile ${production:+--production}
else
  need npm
  npm install --no-package-lock ${production:+--omit=dev}
fi
if [ -z "$production" ]; then
  npm run gcp-build
  npm prune --omit=dev
fi
if [ -n "$all" ]; then
  answer "$work" .
else
  mkdir -p node_modules
  answer "$work" node_modules
fi
