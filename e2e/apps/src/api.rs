//! Keeps items in PostgreSQL. Like most that talk to a database, it reads address and password once, at its start.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::{Client, Config, NoTls};

use crate::http::{Instance, Listen, answer, parameter, serve};

/// The database, by the variables that all of PostgreSQL's clients know.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Connection {
    /// Its host.
    #[arg(long, env = "PGHOST")]
    host: String,
    /// Its port.
    #[arg(long, env = "PGPORT", default_value_t = 5432)]
    port: u16,
    /// Its name.
    #[arg(long, env = "PGDATABASE", default_value = "postgres")]
    database: String,
    /// The role.
    #[arg(long, env = "PGUSER", default_value = "postgres")]
    user: String,
    /// The role's password.
    #[arg(long, env = "PGPASSWORD", hide_env_values = true)]
    password: String,
}

/// Where the items are.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    connection: Connection,
    /// How many items to show at most.
    #[arg(long, env = "ITEMS_LIMIT", default_value_t = 100)]
    limit: i64,
}

impl Connection {
    async fn open(&self) -> anyhow::Result<Client> {
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .dbname(&self.database)
            .user(&self.user)
            .password(&self.password);
        config.connect_timeout(Duration::from_secs(5));
        let (client, connection) = config.connect(NoTls).await.context("cannot connect to the database")?;
        // It ends when the client is dropped or the server goes, which the client's next query tells.
        tokio::spawn(connection);
        Ok(client)
    }
}

/// As many as are ever used, opened at the start, and opened again only when one broke: a program that keeps
/// connections does not notice that the password changes.
const CONNECTIONS: usize = 5;

/// Connections that are kept open.
struct Pool {
    connection: Connection,
    idle: Mutex<Vec<Client>>,
    places: Semaphore,
}

/// A connection, given back when it is dropped.
struct Lent<'a> {
    client: Option<Client>,
    pool: &'a Pool,
    _place: SemaphorePermit<'a>,
}

impl Pool {
    async fn open(connection: Connection) -> anyhow::Result<Self> {
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS {
            idle.push(connection.open().await?);
        }
        Ok(Self { connection, idle: Mutex::new(idle), places: Semaphore::new(CONNECTIONS) })
    }

    async fn lend(&self) -> anyhow::Result<Lent<'_>> {
        let place = self.places.acquire().await.context("no connections")?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let client = match idle {
            Some(client) if !client.is_closed() => client,
            _ => self.connection.open().await?,
        };
        Ok(Lent { client: Some(client), pool: self, _place: place })
    }
}

impl Lent<'_> {
    fn client(&self) -> anyhow::Result<&Client> {
        self.client.as_ref().context("it was given back")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        // Before its place is.
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(self.client.take());
    }
}

struct Api {
    instance: Instance,
    pool: Pool,
    limit: i64,
}

impl Api {
    async fn items(&self) -> anyhow::Result<Value> {
        let lent = self.pool.lend().await?;
        let query = "SELECT name FROM items ORDER BY name LIMIT $1";
        let rows = lent.client()?.query(query, &[&self.limit]).await.context("cannot read items")?;
        let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        Ok(json!(names))
    }

    async fn slow(&self, milliseconds: u32) -> anyhow::Result<Value> {
        let lent = self.pool.lend().await?;
        let seconds = f64::from(milliseconds) / 1000.0;
        lent.client()?.execute("SELECT pg_sleep($1)", &[&seconds]).await.context("the query failed")?;
        Ok(json!(milliseconds))
    }

    fn respond(&self, name: &str, outcome: anyhow::Result<Value>) -> Response {
        let mut body = self.instance.to_json();
        match outcome {
            Ok(value) => {
                body[name] = value;
                answer(StatusCode::OK, &body).into_response()
            }
            Err(error) => {
                println!("{error:#}");
                body["error"] = json!(format!("{error:#}"));
                answer(StatusCode::SERVICE_UNAVAILABLE, &body).into_response()
            }
        }
    }
}

/// Serves `/items`, `/slow?ms=` and, for the probes, `/ready` and `/live`. Ends at once if it cannot reach the database.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let instance = Instance::new();
    let api = Arc::new(Api { instance, pool: Pool::open(args.connection).await?, limit: args.limit });
    let items = async |State(api): State<Arc<Api>>| api.respond("items", api.items().await);
    let router = Router::new()
        .route("/items", get(items))
        .route("/ready", get(items))
        // Another process would not reach the database either.
        .route("/live", get(async || "live\n"))
        .route("/slow", get(slow))
        .with_state(api);
    serve(&args.listen, router).await
}

/// A query that takes as long as is asked for.
async fn slow(State(api): State<Arc<Api>>, RawQuery(query): RawQuery) -> Response {
    let milliseconds =
        parameter(query.as_deref(), "ms").and_then(|ms| u32::try_from(ms).ok()).unwrap_or(1000);
    api.respond("slow", api.slow(milliseconds).await)
}

/// Makes the table, as often as one likes, once the database answers.
pub(crate) async fn migrate(connection: &Connection) -> anyhow::Result<()> {
    let client = connection.open().await?;
    let script = "CREATE TABLE IF NOT EXISTS items (name text PRIMARY KEY);
        INSERT INTO items VALUES ('apple'), ('pear') ON CONFLICT DO NOTHING;";
    client.batch_execute(script).await.context("the migration failed")?;
    println!("the table is there");
    Ok(())
}
